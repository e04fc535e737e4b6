"""PatientRecord takes what a patient can have and refuses the rest, naming the field."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from patient.record import EXAMPLE, FIELDS, PatientRecord, measurements
from trainer.dataset import Dataset

CATEGORIES = [field for field in measurements() if field.codes]
NUMBERS = [field for field in measurements() if not field.codes]


def refused(changes: dict[str, Any]) -> list[str]:
    """The fields that the worked example is refused for, once changed."""
    with pytest.raises(ValidationError) as caught:
        PatientRecord.model_validate(EXAMPLE | changes)
    return [str(error["loc"][0]) for error in caught.value.errors()]


def test_thirteen_fields_of_which_eight_are_categories() -> None:
    """The record is the lecture's table."""
    assert len(FIELDS) == 13
    assert [len(field.codes) for field in CATEGORIES] == [2, 5, 2, 3, 2, 3, 4, 3]


@pytest.mark.parametrize("field", measurements(), ids=lambda field: field.name)
def test_every_field_is_explained(field: Any) -> None:
    """A person can read what a field is: title, description, and a unit or a label for every code."""
    assert field.title
    assert PatientRecord.model_fields[field.name].description
    assert all(field.codes.values()) if field.codes else field.unit


@pytest.mark.parametrize("field", CATEGORIES, ids=lambda field: field.name)
def test_a_code_may_be_written_as_a_whole_float(field: Any) -> None:
    """JSON has one number type: 1.0 is 1, and the record holds the whole number."""
    code = next(iter(field.codes))
    value = getattr(PatientRecord.model_validate(EXAMPLE | {field.name: float(code)}), field.name)
    assert value == code
    assert type(value) is int


@pytest.mark.parametrize("value", [1.5, "1", True, -1, 8, float("nan"), float("inf"), [1], {}])
@pytest.mark.parametrize("field", CATEGORIES, ids=lambda field: field.name)
def test_what_is_not_a_code_is_refused(field: Any, value: object) -> None:
    """Fractions, strings, booleans, unknown codes, NaN and containers are no codes."""
    assert refused({field.name: value}) == [field.name]


@pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.name)
def test_the_range_holds_its_ends_and_nothing_beyond(field: Any) -> None:
    """Ranges are inclusive."""
    for value in (field.low, field.high):
        PatientRecord.model_validate(EXAMPLE | {field.name: value})
    for value in (field.low - 0.1, field.high + 0.1, "120", True, float("nan"), float("inf")):
        assert refused({field.name: value}) == [field.name]


def test_the_impossible_is_refused() -> None:
    """No cholesterol, and an age that nobody reaches."""
    assert refused({"chol": 0, "age": 400}) == ["age", "chol"]


def test_only_age_and_sex_must_be_known() -> None:
    """Every measurement may be null."""
    taken = {field.name for field in measurements() if not field.nullable}
    assert taken == {"age", "sex"}
    PatientRecord.model_validate({name: EXAMPLE[name] if name in taken else None for name in FIELDS})
    assert refused({"age": None, "sex": None}) == ["age", "sex"]


@pytest.mark.parametrize("name", FIELDS)
def test_an_absent_key_is_not_a_missing_measurement(name: str) -> None:
    """Null says "not taken"; an absent key says nothing, and is refused."""
    with pytest.raises(ValidationError) as caught:
        PatientRecord.model_validate({key: value for key, value in EXAMPLE.items() if key != name})
    assert [(error["type"], error["loc"]) for error in caught.value.errors()] == [("missing", (name,))]


def test_an_unknown_key_is_refused() -> None:
    """A misspelt field is not ignored."""
    assert refused({"cholesterol": 233}) == ["cholesterol"]


def test_an_error_does_not_show_the_value() -> None:
    """A traceback in a log must not hold a patient's measurement."""
    with pytest.raises(ValidationError) as caught:
        PatientRecord.model_validate(EXAMPLE | {"chol": 98765.4321})
    assert "98765" not in str(caught.value)


def test_expected_describes_a_valid_value() -> None:
    """An error says what would have been right, with unit or labels."""
    words = {field.name: field.expected for field in measurements()}
    assert words["chol"] == "Serum cholesterol must be a number from 50 to 1000 mg/dl; null if it was not taken"
    assert words["sex"] == "Sex must be 0 (female) or 1 (male)"
    assert words["thal"] == (
        "Thallium scan must be 3 (normal), 6 (fixed defect) or 7 (reversible defect); null if it was not taken"
    )


def test_chest_pain_0_is_taken_and_counts_as_missing() -> None:
    """No patient of the data has it; its words say which code an asymptomatic patient has."""
    record = PatientRecord.model_validate(EXAMPLE | {"cp": 0, "ca": None})
    assert record.missing() == ["cp", "ca"]
    assert [field.name for field in measurements() if field.unspecified is not None] == ["cp"]
    field = measurements()[FIELDS.index("cp")]
    assert field.codes[0] == "unspecified; asymptomatic is 4"
    assert "must be 0 (unspecified; asymptomatic is 4), 1 (typical angina), " in field.expected
    schema = PatientRecord.model_json_schema()["properties"]["cp"]
    assert "0 counts as not taken" in schema["description"]
    assert (schema["unspecified"], schema["labels"][0]) == (0, field.codes[0])


def test_plausible_values_are_valid_and_cover_the_data(cleveland: Dataset) -> None:
    """Plausible values of all that is modifiable: each a valid record's, and none of the 303 records lies outside."""
    for field, column in zip(measurements(), cleveland.rows.T, strict=True):
        assert field.modifiable == (field.name not in {"age", "sex", "restecg", "ca", "thal"})
        if field.modifiable:
            low, high = min(field.plausible), max(field.plausible)
            assert field.low <= low <= np.nanmin(column)
            assert np.nanmax(column) <= high <= field.high
            for value in field.plausible:
                PatientRecord.model_validate(EXAMPLE | {field.name: value})


def test_describe_adds_the_unit_or_the_label() -> None:
    """In a form that people read."""
    fields = {field.name: field for field in measurements()}
    assert fields["thalach"].describe(150.0) == "Maximum heart rate 150 beats/min"
    assert fields["oldpeak"].describe(2.3) == "ST depression 2.3 mm"
    assert fields["thal"].describe(7.0) == "Thallium scan: reversible defect"
    assert fields["thal"].describe(None) == "Thallium scan not taken"
