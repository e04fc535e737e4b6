"""A counterfactual has the opposite result, and no nearer value has."""

import numpy as np
import pytest
from hypothesis import given, settings

from patient.encoding import Floats, as_array
from patient.record import EXAMPLE, FIELDS, Measurement, measurements
from service.explain.counterfactuals import find_counterfactuals
from service.model.predictor import Predictor
from service.records.decoding import Values
from service.records.results import rounded
from service.records.schema import OtherValue
from tests.service.explain.test_shapley import patients

THRESHOLD = 0.5
FIELD = {field.name: field for field in measurements()}


def answers(model: Predictor, values: Values, field: Measurement) -> dict[float, float]:
    """The probability with each of one field's plausible values."""
    records = [dict(zip(FIELDS, values, strict=True)) | {field.name: other} for other in field.plausible]
    rows = as_array(record.values() for record in records).astype(np.float32)
    return dict(zip(field.plausible, rounded(model(rows)).tolist(), strict=True))


def found(model: Predictor, values: Values) -> dict[str, OtherValue]:
    """By the field's name."""
    answer = float(rounded(model(as_array([values]).astype(np.float32)))[0])
    return {change.feature: change for change in find_counterfactuals(model, values, answer >= THRESHOLD, THRESHOLD)}


@settings(deadline=None)
@given(patients())
def test_a_counterfactual_crosses_the_threshold_and_no_nearer_value_does(predictor: Predictor, values: Values) -> None:
    """Every plausible value that crosses is at least as far away; without a new value, none crosses."""
    answer = float(rounded(predictor(as_array([values]).astype(np.float32)))[0])
    for change in found(predictor, values).values():
        others = answers(predictor, values, FIELD[change.feature])
        tried = [p for other, p in others.items() if other != change.value]
        assert (change.low, change.high) == pytest.approx((min(tried), max(tried)), abs=2e-7)
        crossing = {other: p for other, p in others.items() if (p >= THRESHOLD) != (answer >= THRESHOLD)}
        if change.to is None:
            assert not crossing
            assert change.probability is None
            continue
        assert crossing[change.to] == pytest.approx(change.probability, abs=2e-7)
        if change.value is None or FIELD[change.feature].codes:
            nearest = min(abs(p - THRESHOLD) for p in crossing.values())
            assert abs(crossing[change.to] - THRESHOLD) == pytest.approx(nearest, abs=2e-7)
        else:
            assert abs(change.to - change.value) == min(abs(other - change.value) for other in crossing)


def test_only_modifiable_and_missing_measurements_have_a_counterfactual(predictor: Predictor) -> None:
    """Nobody gets younger; a missing measurement could have any value."""
    full = found(predictor, tuple(EXAMPLE.values()))
    assert list(full) == ["cp", "trestbps", "chol", "fbs", "thalach", "exang", "oldpeak", "slope"]
    gaps = found(predictor, tuple((EXAMPLE | {"ca": None, "thal": None}).values()))
    assert list(gaps) == [*full, "ca", "thal"]


def test_all_values_are_tried_in_one_run(predictor: Predictor) -> None:
    sizes = []

    def model(rows: Floats) -> Floats:
        sizes.append(len(rows))
        return predictor(rows)

    find_counterfactuals(model, tuple(EXAMPLE.values()), False, THRESHOLD)
    assert len(sizes) == 1


def test_a_number_changes_to_the_next_step_of_its_resolution() -> None:
    """A whole number for a pressure, tenths of a millimetre for the ST depression."""

    def model(rows: Floats) -> Floats:
        pressure, depression = rows[:, FIELDS.index("trestbps")], rows[:, FIELDS.index("oldpeak")]
        answer: Floats = ((pressure > 150.2) | (depression > 2.34)).astype(np.float32)
        return answer

    named = {
        change.feature: change.to for change in find_counterfactuals(model, tuple(EXAMPLE.values()), False, THRESHOLD)
    }
    assert {name: to for name, to in named.items() if to is not None} == {"trestbps": 151, "oldpeak": 2.4}


def test_a_constant_model_has_no_new_values() -> None:
    """Each measurement is listed, without a new value."""
    listed = find_counterfactuals(
        lambda rows: np.zeros(len(rows), np.float32), tuple(EXAMPLE.values()), False, THRESHOLD
    )
    assert len(listed) == 8
    assert not any(change.to or change.probability for change in listed)
