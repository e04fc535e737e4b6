"""Every format, split and spelled in any way: no row is lost, and unreadable rows are reported."""

import io
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patient.record import EXAMPLE, FIELDS, measurements
from service.model.predictor import Predictor
from service.records.errors import ColumnsError, TableError
from service.tables import columns
from service.tables.formats import ARROW, CSV, FORMATS, JSON, NDJSON, PARQUET, Format, format_of_file
from tests.service.tables.conftest import CELLS, HEADER, LINE, each, packed, through, unpacked
from trainer.dataset import Dataset


@each
@pytest.mark.parametrize("answer", FORMATS, ids=lambda f: f.media_type.rpartition("/")[2])
def test_every_format_is_scored_and_written_in_every_format(
    table: pa.Table, cleveland: Dataset, predictor: Predictor, format_: Format, answer: Format
) -> None:
    """The model's own probabilities, row for row, and the kept columns unchanged."""
    body, tally = through(format_, packed(format_, table, 100), predictor, report=False, keep=["*"], answer=answer)
    rows = unpacked(answer, body)
    assert (tally.rows, tally.bad, len(rows)) == (303, 0, 303)
    expected = predictor(cleveland.rows)
    assert [row["probability"] for row in rows] == pytest.approx(expected, abs=2e-7)
    assert [row["heart_disease"] for row in rows] == [row["probability"] >= 0.5 for row in rows]
    assert [row["missing"] for row in rows] == [
        [name for name, cell in zip(FIELDS, row, strict=True) if np.isnan(cell)] for row in cleveland.rows
    ]
    for name in ("mrn", "a,b"):
        empty = "" if answer is CSV else None  # CSV has no null
        assert [row[name] or empty for row in rows] == [cell or empty for cell in table[name].to_pylist()]
    assert list(rows[0]) == ["mrn", "a,b", "probability", "heart_disease", "missing"]


@each
@pytest.mark.parametrize("report", [True, False])
def test_chest_pain_0_is_named_as_missing_in_every_format(predictor: Predictor, format_: Format, report: bool) -> None:
    """As null is, beside other missing values and beside invalid rows."""
    rows = [EXAMPLE, EXAMPLE | {"cp": 0}, EXAMPLE | {"cp": None}, EXAMPLE | {"cp": 0, "ca": None}, EXAMPLE | {"cp": 4}]
    rows += [EXAMPLE | {"cp": 0, "chol": 0}] * report
    body, _ = through(format_, packed(format_, pa.Table.from_pylist(rows)), predictor, report=report)
    found = unpacked(format_, body)
    assert [row["missing"] for row in found[:5]] == [[], ["cp"], ["cp"], ["cp", "ca"], []]
    assert found[1]["probability"] == found[2]["probability"]
    assert [row["missing"] or None for row in found[5:]] == [None] * report


@each
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=30))
@settings(deadline=None, max_examples=20)
def test_the_pieces_of_a_body_do_not_matter(
    predictor: Predictor, format_: Format, sizes: list[int], table: pa.Table
) -> None:
    """Results are the same wherever the network splits the body: in a cell, a quote or the header."""
    body = packed(format_, table.slice(0, 12), 5)
    pieces, start = [], 0
    for size in sizes * (len(body) // sum(sizes) + 1):
        pieces.append(body[start : start + size])
        start += size
    whole = unpacked(NDJSON, through(format_, body, predictor, keep=["*"], answer=NDJSON)[0])
    cut = unpacked(NDJSON, through(format_, [p for p in pieces if p], predictor, keep=["*"], answer=NDJSON)[0])
    assert [row | {"probability": pytest.approx(row["probability"], abs=2e-7)} for row in whole] == cut


TYPES: list[tuple[pa.Array, bool]] = [
    *(
        (pa.array([63], kind), True)
        for kind in (pa.int8(), pa.uint8(), pa.int16(), pa.uint32(), pa.int64(), pa.uint64())
    ),
    *((pa.array([63.0], kind), True) for kind in (pa.float16(), pa.float32(), pa.float64())),
    (pa.array([Decimal("63.0")]), True),
    (pa.array([63]).dictionary_encode(), True),
    (pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array([63])), True),
    (pa.array([2**63], pa.uint64()), False),
    (pa.array([float("inf")]), False),
    (pa.array([None], pa.float64()), False),
    (pa.nulls(1), False),
]


@pytest.mark.parametrize(("array", "good"), TYPES, ids=lambda x: str(getattr(x, "type", x)))
def test_only_numbers_are_accepted_as_numbers_of_any_width(predictor: Predictor, array: pa.Array, good: bool) -> None:
    """Age in each Arrow type is a number or an invalid row; nothing is cast silently."""
    arrays = [array if name == "age" else pa.array([EXAMPLE[name]]) for name in FIELDS]
    table = pa.RecordBatch.from_arrays(arrays, FIELDS)
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_batch(table)
    _, tally = through(ARROW, out.getvalue(), predictor)
    expected = [] if good else [(0, "age", measurements()[0].expected)]
    assert tally.faults == expected


@pytest.mark.parametrize(
    ("cell", "missing", "good"),
    [
        ("", True, True),
        ('""', True, True),
        ("nan", True, True),
        ("NaN", True, True),
        ("233", False, True),
        ('"233"', False, True),
        (" 233.0 ", False, True),
        ("2.33e2", False, True),
        ("+233", False, True),
        ("233.", False, True),
        ("233_0", False, False),
        ("0xE9", False, False),
        ("true", False, False),
        ("NA", True, True),
        ("nan(1", False, False),
        ("inf", False, False),
        ("-", False, False),
        ("٢٣٣", False, False),
        ("9" * 400, False, False),
    ],
)
@pytest.mark.parametrize("neighbour", ["", "x"], ids=["good", "bad"])
def test_a_cell_of_csv(predictor: Predictor, cell: str, missing: bool, good: bool, neighbour: str) -> None:
    """A cell means the same whether another row of the table is valid or not."""
    other = CELLS.replace(b"233", neighbour.encode() or b"233")
    body = HEADER + b"\n" + CELLS.replace(b"233", cell.encode()) + b"\n" + other
    answer, tally = through(CSV, body, predictor, answer=NDJSON)
    row = unpacked(NDJSON, answer)[0]
    assert [fault.column for fault in tally.faults] == ["chol"] * ((not good) + bool(neighbour))
    assert row["missing"] == (None if not good else ["chol"] if missing else [])


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + HEADER + b"\n" + CELLS,
        HEADER + b"\r\n" + CELLS + b"\r\n",
        HEADER + b"\r" + CELLS + b"\r",
        b"\r\n\n" + HEADER + b"\n\n\n" + CELLS + b"\n\n",
        b"\xef\xbb\xbf# made up\r\n\r\n# with, commas\n" + HEADER + b"\n" + CELLS,
        b'"' + HEADER.replace(b",", b'","') + b'"\n' + CELLS,
    ],
    ids=["mark", "crlf", "cr", "blank", "notes", "quoted"],
)
def test_a_spelling_of_csv(predictor: Predictor, body: bytes) -> None:
    """As Excel, Windows and others write it: one valid row."""
    _, tally = through(CSV, body, predictor)
    assert (tally.rows, tally.bad) == (1, 0)


def test_a_row_of_csv_with_another_number_of_cells_keeps_its_place(predictor: Predictor) -> None:
    """It is one invalid row; its neighbours stay valid."""
    rows = [CELLS, b"1,2", CELLS, CELLS + b",1", CELLS]
    answer, tally = through(
        CSV, b"\n".join([HEADER + b",mrn", *(row + b",m" for row in rows)]), predictor, keep=["mrn"]
    )
    found = unpacked(CSV, answer)
    assert [row["probability"] is None for row in found] == [False, True, False, True, False]
    assert [row["mrn"] for row in found] == ["m", "", "m", "", "m"]
    assert [fault.row for fault in tally.faults] == [1, 3]
    assert tally.faults[0].reason == "The row has 3 cells, the header 14"


@pytest.mark.parametrize(
    ("line", "column", "reason"),
    [
        (b"x", "", "Not JSON"),
        (b"[1]", "", "A patient record must be an object with the fields " + ", ".join(FIELDS)),
        (b"null", "", "A patient record must be an object with the fields " + ", ".join(FIELDS)),
        (LINE[:-1], "", "Not JSON"),
        (LINE + LINE, "", "Not JSON"),
        (LINE + b"," + LINE, "", "Not JSON"),
        (b"\xff" + LINE, "", "Not JSON"),
        (b"[" * 10_000, "", "Not JSON"),
        (LINE.replace(b"63", b"NaN"), "age", measurements()[0].expected),
        (LINE[:-1] + b', "age": 64}', "age", "Age is given twice"),
        (LINE[:-1] + b', "\\u0061ge": 64}', "age", "Age is given twice"),
        (LINE[:-1] + b', "mrn": 64}', "mrn", "Not a field of a patient record"),
        (LINE[:-1] + b', "a:b": 64}', "a:b", "Not a field of a patient record"),
        (LINE.replace(b'"age": 63, ', b""), "age", "Age is missing"),
    ],
    ids=range(14),
)
def test_a_bad_line_of_ndjson_keeps_its_place(predictor: Predictor, line: bytes, column: str, reason: str) -> None:
    """It is one invalid row; its neighbours stay valid."""
    answer, tally = through(NDJSON, b"\n".join([LINE, line, b"", LINE]), predictor)
    assert [row["error"] is None for row in unpacked(NDJSON, answer)] == [True, False, True]
    assert tally.faults == [(1, column, reason)]


@given(
    st.lists(
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5),
        min_size=1,
        max_size=5,
    )
)
@settings(deadline=None)
def test_what_ndjson_keeps_is_the_same_json(predictor: Predictor, values: list[Any]) -> None:
    """Colons, quotes, nesting and escapes survive; a duplicate key makes the row invalid."""
    body = "\n".join(json.dumps({**EXAMPLE, "visit": value}) for value in values).encode()
    answer, tally = through(NDJSON, body, predictor, keep=["visit"], report=False)
    assert [row["visit"] for row in unpacked(NDJSON, answer)] == values
    assert tally.bad == 0
    body += b"\n" + LINE[:-1] + b', "visit": {"a": 1}, "visit": 2}'
    assert through(NDJSON, body, predictor, keep=["visit"])[1].faults == [
        (len(values), "visit", "The column is given twice")
    ]


@pytest.mark.parametrize("format_", [CSV, ARROW, PARQUET], ids=["csv", "arrow", "parquet"])
@pytest.mark.parametrize(
    ("change", "keep", "wrong"),
    [
        (lambda t: t.drop_columns(["mrn", "a,b", "age", "ca"]), [], ["age", "ca"]),
        (lambda t: t, ["mrn"], [""]),
        (lambda t: t.drop_columns(["a,b"]), ["mrn", "visit"], ["visit"]),
        (lambda t: t.rename_columns([{"mrn": "error"}.get(name, name) for name in t.column_names]), ["*"], ["error"]),
    ],
    ids=["missing", "unknown", "absent", "taken"],
)
def test_other_columns_are_refused_before_the_first_row(
    predictor: Predictor, table: pa.Table, format_: Format, change: Any, keep: list[str], wrong: list[str]
) -> None:
    """In formats with a header, unknown ones by their places; in JSON each record has its own keys and faults."""
    body = packed(format_, change(table))
    with pytest.raises(ColumnsError) as caught:
        through(format_, body, predictor, keep=keep)
    assert [name for name, _ in caught.value.columns] == wrong


@pytest.mark.parametrize("format_", [JSON, NDJSON], ids=["json", "ndjson"])
def test_a_key_with_the_name_of_a_result_is_refused_before_the_first_row(
    predictor: Predictor, table: pa.Table, format_: Format
) -> None:
    """`keep=*` takes the keys of the first record."""
    body = packed(format_, table.rename_columns([{"mrn": "error"}.get(name, name) for name in table.column_names]))
    with pytest.raises(ColumnsError, match="error: The result has a column of this name"):
        through(format_, body, predictor, keep=["*"])


@pytest.mark.parametrize(
    "line",
    [
        b"null",
        LINE.replace(b"63", b"NaN"),
        LINE.replace(b"63", b'"63"'),
        LINE[:-1] + b', "age": 64}',
        LINE.replace(b'"age": 63, ', b""),
        LINE[:-1] + b', "visit": 1}',
    ],
    ids=["null", "nan", "text", "duplicate", "missing", "unknown"],
)
def test_an_array_and_ndjson_report_the_same_faults_and_keep_the_values_of_invalid_rows(
    predictor: Predictor, line: bytes
) -> None:
    """Both use the decoder of POST /predict."""
    lines = [text.replace(b"{", b'{"note": [7], ', 1) for text in (LINE, line, LINE)]
    array, ndjson = (
        through(format_, body, predictor, keep=["note"], answer=NDJSON)
        for format_, body in ((JSON, b"[%b]" % b",".join(lines)), (NDJSON, b"\n".join(lines)))
    )
    assert array[0] == ndjson[0]
    assert array[1].faults == ndjson[1].faults
    assert [fault.row for fault in array[1].faults] == [1]
    kept = None if line == b"null" else [7]
    assert [row["note"] for row in unpacked(NDJSON, array[0])] == [[7], kept, [7]]


def test_a_duplicate_column_is_refused() -> None:
    """A field by its name, another column by its place."""
    for names in ([*FIELDS, "age"], [*FIELDS, "mrn", "mrn"]):
        with pytest.raises(ColumnsError) as caught:
            columns.check_header(names, ("*",))
        assert caught.value.columns in (
            [("age", "The column occurs twice")],
            [("", "Columns 14, 15: the name occurs twice")],
        )


def test_a_table_without_a_header_is_refused_and_its_first_patient_not_repeated() -> None:
    """The first line of such a table is a patient's."""
    for names in (CELLS.decode().split(","), [*CELLS.decode().split(",")[:-1], "Jane"]):
        with pytest.raises(ColumnsError) as caught:
            columns.check_header(names, ())
        assert "145" not in str(caught.value)
        assert "2.3" not in str(caught.value)


@pytest.mark.parametrize("name", ["a\\x00", 'a"b', "a\\\\b", "\\n"])
def test_names_that_json_must_escape_are_refused(predictor: Predictor, name: str) -> None:
    """Kept by name or by `*`: the error names the column."""
    line = json.dumps(EXAMPLE | {name: 1}).encode()
    for format_, body in ((NDJSON, line), (JSON, b"[%s]" % line)):
        for keep in ([name], ["*"]):
            with pytest.raises(ColumnsError, match="cannot be kept"):
                through(format_, body, predictor, keep=keep)


def test_a_line_that_is_not_utf_8_is_a_bad_row(predictor: Predictor) -> None:
    """In a key or in a kept value; the line beside it stays valid."""
    good = json.dumps(EXAMPLE).encode()
    for bad in (good.replace(b'"age"', b'"a\xffe"'), good[:-1] + b',"note":"\xff"}'):
        for keep in ([], ["note"], ["*"]):
            answer, tally = through(NDJSON, bad + b"\n" + good, predictor, keep=keep)
            assert (tally.rows, tally.bad) == (2, 1)
            assert json.loads(answer.splitlines()[1])["probability"] > 0


def test_csv_that_is_not_utf_8_is_refused_also_where_a_row_is_too_long(
    predictor: Predictor, capfd: pytest.CaptureFixture[str]
) -> None:
    """pyarrow would print the bytes of a skipped row."""
    with pytest.raises(TableError, match="not UTF-8"):
        through(CSV, ",".join(EXAMPLE).encode() + b"\n" + b"1,\xff" * 20 + b"\n", predictor)
    assert capfd.readouterr().err == ""


def test_a_batch_without_rows_gives_no_results(predictor: Predictor, table: pa.Table) -> None:
    """Between others, as software that filters writes them."""
    batch = table.select(FIELDS).to_batches()[0]
    out = io.BytesIO()
    with pa.ipc.new_stream(out, batch.schema) as writer:
        for part in (batch.slice(0, 0), batch, batch.slice(0, 0)):
            writer.write_batch(part)
    for format_ in FORMATS:
        answer, _ = through(ARROW, out.getvalue(), predictor, answer=format_)
        assert len(unpacked(format_, answer)) == len(batch)


@pytest.mark.parametrize("keep", ["age", "mrn,probability", "missing"])
def test_fields_and_result_columns_cannot_be_kept(keep: str) -> None:
    with pytest.raises(ColumnsError):
        columns.parse_keep(keep)


def test_arrow_files_are_read_too(predictor: Predictor, table: pa.Table) -> None:
    """Feather, as pandas and polars write it."""
    out = io.BytesIO()
    with pa.ipc.new_file(out, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table, 100)
    _, tally = through(ARROW, out.getvalue(), predictor, keep=["*"])
    assert (tally.rows, tally.bad) == (303, 0)


def test_a_files_name_tells_its_format_and_compression() -> None:
    assert format_of_file("a/b.CSV.gz") == (CSV, "gzip")
    assert format_of_file("b.parquet") == (PARQUET, None)
    assert format_of_file("b.jsonl.zst") == (NDJSON, "zstd")
    assert format_of_file("gz") is None
    assert format_of_file("b.xlsx") is None
