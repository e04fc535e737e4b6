"""Shapley values are those of the definition, and their axioms hold, for any function and for the model."""

import math
from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patient.encoding import Floats, as_array
from patient.record import FIELDS, measurements
from service.explain.explanation import log_odds
from service.explain.shapley import Doubles, compute_shapley_values
from service.model.predictor import Predictor
from service.records.decoding import Values

FEW = 4  # values, for which all orders can be tried
cells = st.sampled_from([0.0, 1.0, 2.5, -3.0, math.nan])  # few, so that patient and background often have the same
rows = st.lists(cells, min_size=FEW, max_size=FEW).map(partial(np.array, dtype=np.float32))
tables = st.lists(rows, min_size=1, max_size=5).map(np.array)


def patients() -> st.SearchStrategy[Values]:
    """Valid records, also with missing measurements."""
    return st.tuples(
        *(
            st.one_of(
                st.sampled_from(sorted(field.codes)) if field.codes else st.floats(field.low, field.high, width=32),
                *[st.none()] * field.nullable,
            )
            for field in measurements()
        )
    )


def curved(rows: Floats) -> Doubles:
    """A function of four values in which all interact, and NaN means something."""
    taken = np.where(np.isnan(rows), 0.7, rows).astype(np.float64)
    found: Doubles = np.tanh(taken[:, 0] * taken[:, 1] - taken[:, 2]) + taken[:, 3] * taken[:, 0] ** 2
    return found


def by_definition(function: Callable[[Floats], Doubles], row: Floats, background: Floats) -> Doubles:
    """Every order of joining against every background row, one by one."""
    values = np.zeros(len(row))
    orders = list(permutations(range(len(row))))
    for other in background:
        for order in orders:
            mixed = other.copy()
            for player in order:
                before = function(mixed[None])[0]
                mixed[player] = row[player]
                values[player] += function(mixed[None])[0] - before
    return values / len(orders) / len(background)


@settings(deadline=None)
@given(rows, tables)
def test_the_values_are_those_of_the_definition(row: Floats, background: Floats) -> None:
    """The average over all orders; leaving out equal rows changes nothing."""
    shapley = compute_shapley_values(curved, row, background)
    np.testing.assert_allclose(shapley.values, by_definition(curved, row, background), atol=1e-12)
    assert shapley.base == pytest.approx(float(curved(background).mean()), abs=1e-12)
    assert shapley.output == pytest.approx(float(curved(row[None])[0]), abs=1e-12)


@settings(deadline=None)
@given(st.permutations(range(FEW)), rows, tables)
def test_values_are_symmetric(order: list[int], row: Floats, background: Floats) -> None:
    """Neither name nor position of a value matters, only what the function does with it."""
    shuffled = compute_shapley_values(lambda rows: curved(rows[:, np.argsort(order)]), row[order], background[:, order])
    np.testing.assert_allclose(
        shuffled.values, compute_shapley_values(curved, row, background).values[order], atol=1e-12
    )


def test_the_values_of_a_linear_function(cleveland: Any) -> None:
    """Each is the coefficient times the distance from the background's mean."""
    background, row = (part[~np.isnan(part).any(axis=1)] for part in (cleveland.rows[:40], cleveland.rows[200:202]))
    slopes = np.linspace(-2, 3, len(FIELDS))
    shapley = compute_shapley_values(lambda rows: rows @ slopes + 5, row[0], background)
    np.testing.assert_allclose(shapley.values, slopes * (row[0] - background.mean(axis=0, dtype=float)), atol=1e-9)
    assert shapley.base == pytest.approx(5 + slopes @ background.mean(axis=0, dtype=float), abs=1e-9)


@settings(deadline=None)
@given(patients(), st.sampled_from(range(len(FIELDS))))
def test_an_unused_measurement_has_the_value_0(predictor: Predictor, values: Values, unseen: int) -> None:
    """The dummy axiom."""

    def blind(rows: Floats) -> Doubles:
        rows = rows.copy()
        rows[:, unseen] = np.nan
        return log_odds(predictor, rows)

    row, background = (as_array(of).astype(np.float32) for of in ([values], predictor.metadata.background[:4]))
    assert abs(compute_shapley_values(blind, row[0], background).values[unseen]) < 1e-9


@settings(deadline=None)
@given(patients())
def test_the_values_of_any_patient_add_up(predictor: Predictor, values: Values) -> None:
    """Efficiency: base and values add up to the output, whatever is missing."""
    row, background = (as_array(of).astype(np.float32) for of in ([values], predictor.metadata.background[:4]))
    shapley = compute_shapley_values(partial(log_odds, predictor), row[0], background)
    assert shapley.base + shapley.values.sum() == pytest.approx(shapley.output, abs=1e-9)
    assert shapley.output == pytest.approx(log_odds(predictor, row)[0], abs=1e-2)  # 1e-7 in a probability near 1


@pytest.mark.filterwarnings("ignore")  # numba and matplotlib of what shap imports
def test_the_values_are_those_of_the_shap_package(predictor: Predictor, cleveland: Any) -> None:
    """Its exact explainer, on the same model and background; patients with and without gaps."""
    shap = pytest.importorskip("shap")
    little = np.full(len(FIELDS), np.nan, np.float32)
    little[:2] = 50, 1
    chosen = np.vstack([cleveland.rows[[0, 1, 87, 166, 302]], little])
    background = as_array(predictor.metadata.background).astype(np.float32)

    def function(rows: Doubles) -> Doubles:
        return log_odds(predictor, rows.astype(np.float32))

    explainer = shap.explainers.Exact(function, shap.maskers.Independent(background, max_samples=len(background)))
    for row in chosen:  # one at a time: for several it shows a progress bar
        theirs, ours = explainer(row[None]), compute_shapley_values(partial(log_odds, predictor), row, background)
        np.testing.assert_allclose(ours.values, theirs.values[0], atol=1e-6)
        assert ours.base == pytest.approx(theirs.base_values[0], abs=1e-6)
