"""Many rows at once are refused for exactly what PatientRecord refuses one by one."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from patient.record import EXAMPLE, FIELDS, Measurement, PatientRecord, measurements
from patient.table import invalid_cells
from trainer.dataset import Dataset


def by_record(row: list[float]) -> list[bool]:
    """What PatientRecord says of each cell of a row."""
    try:
        PatientRecord.model_validate(
            {name: None if math.isnan(value) else value for name, value in zip(FIELDS, row, strict=True)}
        )
    except ValidationError as error:
        wrong = {str(e["loc"][0]) for e in error.errors()}
        return [name in wrong for name in FIELDS]
    return [False] * len(FIELDS)


def cells(field: Measurement) -> st.SearchStrategy[float]:
    """What may stand in a field's cell: right, wrong by the least or by far, or missing."""
    edges = [float(edge) for edge in (field.low, field.high, *field.codes)]
    near = [math.nextafter(edge, to) for edge in edges for to in (-math.inf, math.inf)]
    invalid_probabilities = [math.nan, math.inf, -math.inf, -0.0, 0.5, 1e308, -1e308, 5e-324, 2.0**53 + 2, 2.0**64]
    return st.one_of(
        st.sampled_from(edges),
        st.floats(field.low, field.high),
        st.sampled_from(near + invalid_probabilities),
        st.floats(),
    )


@given(st.lists(st.tuples(*map(cells, measurements())), max_size=20))
def test_every_cell_is_judged_as_by_patient_record(rows: list[tuple[float, ...]]) -> None:
    """Training data and requests are held to one rule, though not by one code."""
    found = invalid_cells(np.array(rows, np.float64).reshape(-1, len(FIELDS)))
    assert found.tolist() == [by_record(list(row)) for row in rows]


@pytest.mark.parametrize("field", measurements(), ids=lambda field: field.name)
def test_every_edge_of_every_field(field: Measurement) -> None:
    """The last value inside is taken, the next float outside is not; and so for every code and for missing."""
    index = FIELDS.index(field.name)
    for edge in (field.low, field.high, *field.codes, math.nan, math.inf):
        for value in (edge, math.nextafter(edge, -math.inf), math.nextafter(edge, math.inf)):
            row = [float(EXAMPLE[name]) for name in FIELDS]
            row[index] = value
            assert invalid_cells(np.array([row]))[0].tolist() == by_record(row)


@pytest.mark.parametrize("order", ["C", "F"])
def test_both_memory_layouts_and_any_number_of_rows(order: Any, cleveland: Dataset) -> None:
    """No row of the data set is refused, no rows give no verdicts, and a fault is found in its place."""
    values = np.array(cleveland.rows, np.float64, order=order)
    assert invalid_cells(values).shape == (303, 13)
    assert not invalid_cells(values).any()
    assert invalid_cells(values[:0]).shape == (0, 13)
    values[7, 4] = 9999
    assert np.argwhere(invalid_cells(values)).tolist() == [[7, 4]]
