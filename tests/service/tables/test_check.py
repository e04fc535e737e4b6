"""Tables are validated by PatientRecord's rules, with its error texts, cell for cell, in every format."""

import json
import math
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from patient.record import FIELDS, Measurement, measurements
from service.model.predictor import Predictor
from service.records.decoding import parse, validate
from service.records.errors import InvalidRecord, OtherCodebook, RowFault
from service.tables.formats import ARROW, CSV, NDJSON, PARQUET, Format
from tests.service.tables.conftest import packed, through, unpacked

Row = dict[str, Any]


def by_record(rows: list[Row]) -> list[RowFault]:
    """The faults that PatientRecord finds in rows, one by one, as JSON."""
    found = []
    for number, row in enumerate(rows):
        try:
            validate(parse(json.dumps(row).encode()))
        except InvalidRecord as error:
            found += [RowFault(number, *fault) for fault in error.faults]
    return found


def numbers(field: Measurement) -> st.SearchStrategy[Any]:
    """A field's cell: valid, just outside the range, far outside, or missing; an integer or a float."""
    edges = [float(edge) for edge in (field.low, field.high, *field.codes)]
    near = [math.nextafter(edge, to) for edge in edges for to in (-math.inf, math.inf)]
    odd = [-0.0, 0.5, 1.5, 1e308, 5e-324, 2.0**53 + 2, 2.0**64, 10**40, -(10**18), 2**63]
    whole = st.integers(int(field.low), int(field.high)) | st.integers()
    right = st.sampled_from([*field.codes]) if field.codes else st.floats(field.low, field.high)
    return st.one_of(
        right,
        right,
        right,
        st.none(),
        whole,
        st.sampled_from(edges + near + odd),
        st.floats(allow_nan=False, allow_infinity=False),
    )


ROWS = st.lists(st.fixed_dictionaries({field.name: numbers(field) for field in measurements()}), min_size=1, max_size=7)
CELLS = {
    "numbers": ROWS,
    "anything": st.lists(
        st.fixed_dictionaries(
            {
                field.name: st.one_of(
                    numbers(field), st.booleans(), st.text(), st.sampled_from(["63", "1", ""]), st.lists(st.none())
                )
                for field in measurements()
            }
        ),
        min_size=1,
        max_size=7,
    ),
}


def judged(format_: Format, body: bytes, model: Predictor, rows: int) -> list[RowFault]:
    """The faults of a table, after checking that its results report the same."""
    try:
        answer, tally = through(format_, body, model)
    except OtherCodebook:  # two columns of a few rows are enough: tests/service/tables/test_codebook.py
        reject()
    answers = unpacked(NDJSON, through(format_, body, model, answer=NDJSON)[0])
    assert len(unpacked(format_, answer)) == len(answers) == tally.rows == rows
    bad = {fault.row for fault in tally.faults}
    assert [row for row, found in enumerate(answers) if found["error"]] == sorted(bad)
    for row, found in enumerate(answers):
        assert (found["probability"] is None) == (found["heart_disease"] is None) == (row in bad)
        expected = [f"{fault.column}: {fault.reason}" for fault in tally.faults if fault.row == row]
        assert (found["error"] or "") == " | ".join(expected)
    assert (tally.bad, tally.total) == (len(bad), len(tally.faults))
    return tally.faults


@pytest.mark.parametrize("cells", CELLS)
def test_ndjson_is_judged_as_the_record_judges(predictor: Predictor, cells: str) -> None:
    """Any JSON value, beside valid and invalid rows."""

    @given(CELLS[cells])
    @settings(deadline=None)
    def check(rows: list[Row]) -> None:
        body = "".join(json.dumps(row) + "\n" for row in rows).encode()
        assert judged(NDJSON, body, predictor, len(rows)) == by_record(rows)

    check()


@given(ROWS)
@settings(deadline=None)
def test_csv_is_judged_as_the_record_judges(predictor: Predictor, rows: list[Row]) -> None:
    """The same numbers, as text; an empty cell is null."""
    lines = [",".join("" if row[name] is None else repr(row[name]) for name in FIELDS) for row in rows]
    body = "\n".join([",".join(FIELDS), *lines]).encode()
    assert judged(CSV, body, predictor, len(rows)) == by_record(rows)


@pytest.mark.parametrize("format_", [ARROW, PARQUET], ids=["arrow", "parquet"])
@given(ROWS)
@settings(deadline=None)
def test_doubles_are_judged_as_the_record_judges(predictor: Predictor, format_: Format, rows: list[Row]) -> None:
    """In both columnar formats."""
    rows = [{name: None if cell is None else float(cell) for name, cell in row.items()} for row in rows]
    table = pa.table({name: pa.array([row[name] for row in rows], pa.float64()) for name in FIELDS})
    assert judged(format_, packed(format_, table), predictor, len(rows)) == by_record(rows)
