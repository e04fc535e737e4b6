"""Rows in shared memory get the answers that the same rows get as an array."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patient.encoding import as_array, as_bytes, from_bytes
from patient.record import FIELDS
from service.model.execution import MAX_HOST_ROWS
from service.model.predictor import Predictor
from service.records.results import SCALE, rounded

VALUES = st.lists(
    st.none() | st.floats(-5, 1000) | st.integers(0, 7), min_size=len(FIELDS), max_size=len(FIELDS)
)  # fmt: skip


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_a_row_of_bytes_is_the_row_of_the_array(rows: list[list[float | None]]) -> None:
    """To the last bit, and None is NaN."""
    assert np.array_equal(
        from_bytes(as_bytes(row) for row in rows), as_array(rows).astype(np.float32), equal_nan=True
    )  # fmt: skip


@pytest.mark.parametrize(
    "count", [1, 2, 3, 4, 5, 63, 64, 65, MAX_HOST_ROWS - 1, MAX_HOST_ROWS, MAX_HOST_ROWS + 1, 3 * MAX_HOST_ROWS]
)
def test_any_number_of_rows_is_answered_in_order(predictor: Predictor, count: int) -> None:
    """Whatever buffer they lie in, and whatever an earlier run has left in it."""
    generator = np.random.default_rng(count)
    for _ in range(3):
        rows = generator.uniform(0, 8, (count, len(FIELDS))).astype(np.float32)
        rows[generator.random(rows.shape) < 0.2] = math.nan
        assert predictor.predict_bytes([row.tobytes() for row in rows]) == pytest.approx(
            predictor(rows).tolist(), abs=1e-6
        )


@settings(max_examples=500)
@given(st.floats(0, 1, width=32))
def test_one_probability_is_rounded_as_many_are(probability: float) -> None:
    """A record gets the same number alone and in a batch."""
    assert round(probability * SCALE) / SCALE == rounded(np.array([probability], np.float32))[0]
