"""A table in Kaggle's codes is refused whole, in every format and mode, before any of its rows is answered."""

import json
from typing import Any

import pyarrow as pa
import pytest

from patient.record import EXAMPLE, FIELDS
from service.model.predictor import Predictor
from service.records.errors import OtherCodebook, TableError, Tally
from service.tables import columns
from service.tables.formats import CSV, FORMATS, JSON, NDJSON, Format
from service.tables.scoring import score
from service.tables.source import Limits
from tests.kaggle import SENTENCE, as_csv, kaggles, ours
from tests.service.tables.conftest import Pieces, each, packed, schema_of, scorer_of, through, unpacked

KAGGLE = kaggles()


def fields(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without their targets."""
    return [{name: row[name] for name in FIELDS} for row in rows]


@each
@pytest.mark.parametrize("report", [True, False])
@pytest.mark.parametrize("whole", [True, False], ids=["integers", "floats"])
def test_kaggles_table_is_refused(predictor: Predictor, format_: Format, report: bool, whole: bool) -> None:
    """With its target kept or without it; numbers of any type."""
    rows = [{name: int(cell) if whole else cell for name, cell in row.items()} for row in KAGGLE]
    for keep, table in (([], fields(rows)), (["target"], rows), (["*"], rows)):
        for answer in (format_, CSV):
            with pytest.raises(OtherCodebook, match=f"{SENTENCE}: see cp, slope, ca and thal in 267 of its first 303"):
                through(
                    format_,
                    packed(format_, pa.Table.from_pylist(table)),
                    predictor,
                    report=report,
                    keep=keep,
                    answer=answer,
                )


@pytest.mark.parametrize("format_", [JSON, NDJSON], ids=["json", "ndjson"])
def test_json_that_is_invalid_for_another_reason_too_is_refused_for_the_codes(
    predictor: Predictor, format_: Format
) -> None:
    """The target that is not kept makes every row invalid, but the codes are the cause to name."""
    with pytest.raises(OtherCodebook):
        through(format_, packed(format_, pa.Table.from_pylist(KAGGLE)), predictor)


@each
def test_the_same_patients_in_our_codes_are_scored(predictor: Predictor, format_: Format) -> None:
    """Every one of them."""
    for report in (True, False):
        _, tally = through(format_, packed(format_, pa.Table.from_pylist(fields(ours()))), predictor, report=report)
        assert (tally.rows, tally.bad) == (303, 0)


@each
@pytest.mark.parametrize("cell", [{"thal": 2}, {"slope": 0}, {"ca": 4}, {"cp": 0}])
def test_one_mistyped_cell_is_one_row(predictor: Predictor, format_: Format, cell: dict[str, int]) -> None:
    """An invalid one, or one without the value; the others are scored."""
    for others in (0, 1, 20):
        rows = [{**EXAMPLE, **cell}, *[EXAMPLE] * others]
        body, tally = through(format_, packed(format_, pa.Table.from_pylist(rows)), predictor)
        assert (tally.rows, tally.bad) == (others + 1, int("cp" not in cell))
        assert [row["probability"] is None for row in unpacked(format_, body)][1:] == [False] * others


@each
def test_small_tables_are_refused_for_two_columns(predictor: Predictor, format_: Format) -> None:
    """Of a single row, or of two."""
    plain = EXAMPLE | {"slope": 1, "thal": 3}
    for rows in ([plain | {"cp": 0, "thal": 1}], [plain | {"cp": 0}, plain | {"slope": 0}]):
        with pytest.raises(OtherCodebook, match=f"{SENTENCE}: see cp and "):
            through(format_, packed(format_, pa.Table.from_pylist(rows)), predictor)


@each
def test_a_refused_table_has_no_output_at_all(predictor: Predictor, format_: Format) -> None:
    """Not even a header, whatever the writer: the first rows are judged before it begins."""
    body = packed(format_, pa.Table.from_pylist(fields(KAGGLE)), rows=20)
    for answer in FORMATS:
        pieces: list[Any] = []
        table = format_.read(Pieces([body]), columns.parse_keep(""), Limits())
        schema = schema_of(table, predictor, report=True)
        with pytest.raises(OtherCodebook):
            pieces += answer.write(schema, score(table.chunks, scorer_of(predictor), schema, Tally()))
        assert not pieces


@pytest.mark.parametrize("format_", [CSV, NDJSON], ids=["csv", "ndjson"])
def test_rows_that_come_one_by_one_are_judged_together(predictor: Predictor, format_: Format) -> None:
    """The answers before the refusal are those of the rows before it; where rows are refused, there are none."""
    lines = packed(format_, pa.Table.from_pylist(fields(KAGGLE))).splitlines(keepends=True)
    for report in (True, False):
        table = format_.read(Pieces(lines), columns.parse_keep(""), Limits())
        schema, tally = schema_of(table, predictor, report), Tally()
        answered: list[pa.RecordBatch] = []
        with pytest.raises(OtherCodebook):
            answered += score(table.chunks, scorer_of(predictor), schema, tally)
        assert tally.rows <= 8
        assert not report or sum(map(len, answered)) == tally.rows


def test_a_damaged_table_is_still_damaged(predictor: Predictor) -> None:
    """Its own error comes as before."""
    with pytest.raises(TableError, match="UTF-8"):
        through(CSV, as_csv(fields(ours())).encode() + b"\xff\n", predictor)


def test_no_cell_is_repeated(predictor: Predictor) -> None:
    """Neither a number nor a kept column's text."""
    rows = [{**row, "age": 77.25, "mrn": "SURNAME"} for row in fields(KAGGLE)]
    with pytest.raises(OtherCodebook) as caught:
        through(NDJSON, "\n".join(map(json.dumps, rows)).encode(), predictor, keep=["mrn"])
    assert "77" not in str(caught.value)
    assert "SURNAME" not in str(caught.value)
