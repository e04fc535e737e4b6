"""The numpy reference of the encoding does what the lecture's table says."""

import numpy as np
import pytest

from patient.encoding import as_rows, encode, layout, statistics
from patient.record import EXAMPLE, FIELDS, PatientRecord
from trainer.dataset import Dataset

MEAN, STD = np.array([50, 130, 250, 150, 1], np.float32), np.array([10, 20, 50, 25, 1], np.float32)


def test_29_columns_5_numbers_then_24_codes() -> None:
    """The lecture's count."""
    columns = layout()
    assert (len(columns.numeric), len(columns.onehot), columns.width) == (5, 24, 29)
    assert [FIELDS[i] for i in columns.numeric] == ["age", "trestbps", "chol", "thalach", "oldpeak"]


def test_the_worked_example_encoded_by_hand() -> None:
    """Numbers are standardised; of each category one column is 1."""
    row = as_rows([PatientRecord.model_validate(EXAMPLE)])
    (encoded,) = encode(row, MEAN, STD)
    assert encoded[:5] == pytest.approx([1.3, 0.75, -0.34, 0.0, 1.3], abs=1e-6)
    sex, cp, fbs, restecg = [0, 1], [0, 1, 0, 0, 0], [0, 1], [0, 0, 1]
    exang, slope, ca, thal = [1, 0], [0, 0, 1], [1, 0, 0, 0], [0, 1, 0]
    assert encoded[5:].tolist() == [*sex, *cp, *fbs, *restecg, *exang, *slope, *ca, *thal]


def test_what_is_missing_is_all_zeros() -> None:
    """A missing number counts as the mean, a missing category as none of its codes."""
    assert not encode(np.full((1, 13), np.nan, np.float32), MEAN, STD).any()


def test_a_row_keeps_the_order_of_the_record_whatever_the_order_of_the_keys() -> None:
    """JSON objects have no order; the model's input has."""
    shuffled = dict(reversed(EXAMPLE.items()))
    assert as_rows([PatientRecord.model_validate(shuffled)])[0] == pytest.approx([EXAMPLE[name] for name in FIELDS])


def test_null_becomes_nan() -> None:
    """NaN is how the model's input says "not taken"."""
    record = PatientRecord.model_validate(EXAMPLE | {"ca": None})
    assert np.argwhere(np.isnan(as_rows([record]))).tolist() == [[0, FIELDS.index("ca")]]
    assert record.missing() == ["ca"]


def test_statistics_leave_missing_values_out() -> None:
    """Mean and deviation are of what was measured."""
    rows = np.full((3, 13), np.nan, np.float32)
    rows[:, 0] = [40, 50, np.nan]
    mean, std = statistics([rows])
    assert (mean[0], std[0]) == (45, 5)
    assert (mean[1], std[1]) == (0, 1)  # never taken


def test_statistics_of_the_real_data(cleveland: Dataset) -> None:
    """Against numpy's own, on fields without missing values."""
    mean, std = statistics([cleveland.rows])
    numbers = cleveland.rows[:, layout().numeric].astype(np.float64)
    assert mean == pytest.approx(numbers.mean(axis=0), rel=1e-6)
    assert std == pytest.approx(numbers.std(axis=0), rel=1e-6)
