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
from service.explain.shapley import Doubles, shapley
from service.model.predictor import Predictor
from service.records.decoding import Values

FEW = 4  # values, for which all orders can be tried
cells = st.sampled_from([0.0, 1.0, 2.5, -3.0, math.nan])  # few, so that patient and background often have the same
rows = st.lists(cells, min_size=FEW, max_size=FEW).map(partial(np.array, dtype=np.float32))
tables = st.lists(rows, min_size=1, max_size=5).map(np.array)


def patients() -> st.SearchStrategy[Values]:
    """Whatever a record may hold, gaps among it."""
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
    """The average over all orders, and rows that are left out because they are equal change nothing."""
    shares = shapley(curved, row, background)
    np.testing.assert_allclose(shares.values, by_definition(curved, row, background), atol=1e-12)
    assert shares.base == pytest.approx(float(curved(background).mean()), abs=1e-12)
    assert shares.answer == pytest.approx(float(curved(row[None])[0]), abs=1e-12)


@settings(deadline=None)
@given(st.permutations(range(FEW)), rows, tables)
def test_values_follow_their_places(order: list[int], row: Floats, background: Floats) -> None:
    """Symmetry: neither a value's name nor its place matters, only what the function does with it."""
    shuffled = shapley(lambda rows: curved(rows[:, np.argsort(order)]), row[order], background[:, order])
    np.testing.assert_allclose(shuffled.values, shapley(curved, row, background).values[order], atol=1e-12)


def test_of_a_linear_function_the_values_are_known(cleveland: Any) -> None:
    """Each is the coefficient times the distance from the background's mean."""
    background, row = (part[~np.isnan(part).any(axis=1)] for part in (cleveland.rows[:40], cleveland.rows[200:202]))
    slopes = np.linspace(-2, 3, len(FIELDS))
    shares = shapley(lambda rows: rows @ slopes + 5, row[0], background)
    np.testing.assert_allclose(shares.values, slopes * (row[0] - background.mean(axis=0, dtype=float)), atol=1e-9)
    assert shares.base == pytest.approx(5 + slopes @ background.mean(axis=0, dtype=float), abs=1e-9)


@settings(deadline=None)
@given(patients(), st.sampled_from(range(len(FIELDS))))
def test_what_the_function_does_not_look_at_has_no_part(predictor: Predictor, values: Values, unseen: int) -> None:
    """The dummy axiom, exactly: the values are 0, not small."""

    def blind(rows: Floats) -> Doubles:
        rows = rows.copy()
        rows[:, unseen] = np.nan
        return log_odds(predictor, rows)

    row, background = (as_array(of).astype(np.float32) for of in ([values], predictor.metadata.background[:4]))
    assert abs(shapley(blind, row[0], background).values[unseen]) < 1e-9


@settings(deadline=None)
@given(patients())
def test_the_shares_of_any_patient_add_up(predictor: Predictor, values: Values) -> None:
    """Efficiency: nothing of the answer is left over, whatever is missing."""
    row, background = (as_array(of).astype(np.float32) for of in ([values], predictor.metadata.background[:4]))
    shares = shapley(partial(log_odds, predictor), row[0], background)
    assert shares.base + shares.values.sum() == pytest.approx(shares.answer, abs=1e-9)
    assert shares.answer == pytest.approx(log_odds(predictor, row)[0], abs=1e-2)  # 1e-7 in a probability near 1


@pytest.mark.filterwarnings("ignore")  # numba and matplotlib of what shap imports
def test_they_are_those_of_the_shap_package(predictor: Predictor, cleveland: Any) -> None:
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
        theirs, ours = explainer(row[None]), shapley(partial(log_odds, predictor), row, background)
        np.testing.assert_allclose(ours.values, theirs.values[0], atol=1e-6)
        assert ours.base == pytest.approx(theirs.base_values[0], abs=1e-6)
