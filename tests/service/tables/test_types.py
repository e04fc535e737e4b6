"""Kept columns of every Arrow type, in every output format."""

import csv
import io
import json
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from patient.record import EXAMPLE
from service.model.predictor import Predictor
from service.records.errors import ColumnsError, TableError
from service.tables.formats import ARROW, CSV, FORMATS, JSON, NDJSON, PARQUET, Format
from service.tables.kept import has_text, values
from tests.service.tables.conftest import packed, through, unpacked


def table_with(column: pa.Array, field: pa.Field | None = None) -> pa.Table:
    """The example record once per value of a column `note`."""
    rows = pa.Table.from_pylist([dict(EXAMPLE)] * len(column))
    return rows.append_column(field or "note", column)


typed = pytest.mark.parametrize("format_", [ARROW, PARQUET], ids=["arrow", "parquet"])


@typed
@pytest.mark.parametrize(
    "metadata", [{"json": "1"}, {"json": "", "ARROW:extension:name": "json"}], ids=["json", "both"]
)
def test_the_senders_metadata_do_not_make_text_json(
    predictor: Predictor, format_: Format, metadata: dict[str, str]
) -> None:
    """A kept text that looks like the end of one result and the beginning of another stays one row's text."""
    text = 'null,"probability":0.01,"heart_disease":false,"missing":[],"error":null}\n{"note":1'
    table = table_with(pa.array([text]), pa.field("note", pa.string(), metadata=metadata))
    for answer in FORMATS:
        body, _ = through(format_, packed(format_, table), predictor, keep=["note"], answer=answer)
        rows = unpacked(answer, body)
        assert [row["note"] for row in rows] == [text]
        assert rows[0]["probability"] > 0.1


@typed
def test_no_metadata_of_the_sender_are_in_the_results(predictor: Predictor, format_: Format) -> None:
    """Neither a field's nor the schema's; the model's version and threshold are."""
    field = pa.field("note", pa.string(), metadata={"from": "sender"})
    table = table_with(pa.array(["x"]), field).replace_schema_metadata({"model_version": "0", "from": "sender"})
    body, _ = through(format_, packed(format_, table), predictor, keep=["note"], answer=ARROW)
    schema = pa.ipc.open_stream(body).schema
    assert schema.field("note").metadata is None
    assert schema.metadata[b"model_version"].decode() == predictor.version
    assert set(schema.metadata) == {b"model_version", b"threshold"}


def test_a_kept_column_may_have_nulls_whatever_its_sender_declares(predictor: Predictor) -> None:
    """An Arrow stream may have them in a column that is declared to have none."""
    table = table_with(pa.array(["x", None]), pa.field("note", pa.string(), nullable=False))
    for answer in FORMATS:
        body, _ = through(ARROW, packed(ARROW, table), predictor, keep=["note"], answer=answer)
        assert [row["note"] or None for row in unpacked(answer, body)] == ["x", None]


def far(count: int, kind: pa.DataType) -> pa.Array:
    """A value of a type that counts units, and null."""
    return pa.array([count, None], pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)


def indexed(values: pa.Array) -> pa.Array:
    """A dictionary of the values, the first row null."""
    return pa.DictionaryArray.from_arrays(pa.array([None, *range(len(values))], pa.int8()), values)


def runs(values: pa.Array) -> pa.Array:
    """Each value twice, run-end-encoded."""
    return pa.RunEndEncodedArray.from_arrays(pa.array(range(2, 2 * len(values) + 1, 2), pa.int32()), values)


def within_list(values: pa.Array) -> pa.Array:
    """A row with all values and a row without."""
    return pa.ListArray.from_arrays(pa.array([0, len(values), len(values)], pa.int32()), values)


FAR_DATE = 86_400_000 * 5 * 10**10  # in ms
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
UUIDS = pa.array([ID.bytes, None], pa.uuid())
UNION = [pa.array([1, 2, 3]), pa.array(["a", "b", None])]
# The array, and what JSON has for each value.
COLUMNS: dict[str, tuple[pa.Array, list[Any]]] = {
    "null": (pa.nulls(2), [None, None]),
    "bool": (pa.array([True, None]), [True, None]),
    "int8": (pa.array([-1, None], pa.int8()), [-1, None]),
    "uint64": (pa.array([2**64 - 1, None], pa.uint64()), [2**64 - 1, None]),
    "float16": (pa.array([1.5, None], pa.float16()), [1.5, None]),
    "float32": (pa.array([0.5, None], pa.float32()), [0.5, None]),
    "float64": (pa.array([0.1, None]), [0.1, None]),
    **{
        f"decimal{bits}": (pa.array([Decimal("-1.50"), None], kind), ["-1.50", None])
        for bits, kind in {
            32: pa.decimal32(5, 2),
            64: pa.decimal64(5, 2),
            128: pa.decimal128(5, 2),
            256: pa.decimal256(70, 2),
        }.items()
    },
    "negative scale": (pa.array([Decimal(100), None], pa.decimal128(5, -2)), ["1E+2", None]),
    **{
        str(kind): (pa.array(['ü"\n', "", None], kind), ['ü"\n', "", None])
        for kind in (pa.string(), pa.large_string(), pa.string_view())
    },
    **{
        str(kind): (pa.array([b"\xff\xfe", None], kind), ["//4=", None])
        for kind in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2))
    },
    "no bytes": (pa.array([b"", None], pa.binary(0)), ["", None]),
    "date32": (far(1, pa.date32()), ["1970-01-02", None]),
    "far date32": (far(2**30, pa.date32()), ["2941775-04-07", None]),
    "date64": (far(86_400_000, pa.date64()), ["1970-01-02", None]),
    "far date64": (far(FAR_DATE, pa.date64()), ["136897320-05-08", None]),
    **{
        f"timestamp {unit}": (far(-1, pa.timestamp(unit)), [text, None])
        for unit, text in {
            "s": "1969-12-31T23:59:59",
            "ms": "1969-12-31T23:59:59.999",
            "us": "1969-12-31T23:59:59.999999",
            "ns": "1969-12-31T23:59:59.999999999",
        }.items()
    },
    "far timestamp": (far(2**60, pa.timestamp("s")), ["36534630048-05-13T13:56:16", None]),
    "year 10000": (far(253_402_300_800, pa.timestamp("s")), ["10000-01-01T00:00:00", None]),
    "utc": (far(0, pa.timestamp("s", "UTC")), ["1970-01-01T00:00:00Z", None]),
    "zone": (far(0, pa.timestamp("s", "Europe/Berlin")), ["1970-01-01T01:00:00+0100", None]),
    "offset": (far(0, pa.timestamp("s", "+02:30")), ["1970-01-01T02:30:00+0230", None]),
    "far zone": (far(2**60, pa.timestamp("s", "Europe/Berlin")), ["36534630048-05-13T13:56:16Z", None]),
    "unknown zone": (far(0, pa.timestamp("s", "Foo\n/Bar")), ["1970-01-01T00:00:00Z", None]),
    "time32 s": (far(3661, pa.time32("s")), ["01:01:01", None]),
    "time32 ms": (far(1, pa.time32("ms")), ["00:00:00.001", None]),
    "time64 us": (far(1, pa.time64("us")), ["00:00:00.000001", None]),
    "time64 ns": (far(1, pa.time64("ns")), ["00:00:00.000000001", None]),
    "duration s": (far(2**62, pa.duration("s")), ["PT4611686018427387904S", None]),
    "duration ms": (far(-1500, pa.duration("ms")), ["PT-1.500S", None]),
    "duration ns": (far(1, pa.duration("ns")), ["PT0.000000001S", None]),
    "interval": (pa.array([(1, -2, 3), None], pa.month_day_nano_interval()), ["P1M-2DT0.000000003S", None]),
    "uuid": (UUIDS, [str(ID), None]),
    "bool8": (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None], pa.int8())), [True, None]),
    "json": (pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":1}', None])), ['{"a":1}', None]),
    "tensor": (
        pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.int8(), [2]), pa.array([[1, 2], None], pa.list_(pa.int8(), 2))
        ),
        [[1, 2], None],
    ),
    **{
        str(kind): (pa.array([[1, None], None, [], [2]], kind), [[1, None], None, [], [2]])
        for kind in (
            pa.list_(pa.int8()),
            pa.large_list(pa.int8()),
            pa.list_view(pa.int8()),
            pa.large_list_view(pa.int8()),
        )
    },
    "fixed list": (pa.array([[1, None], None, [2, 3]], pa.list_(pa.int8(), 2)), [[1, None], None, [2, 3]]),
    "fixed list of 0": (pa.array([[], None], pa.list_(pa.int8(), 0)), [[], None]),
    "list of strings": (pa.array([["a;b", None], []], pa.list_(pa.string())), [["a;b", None], []]),
    "list of bytes": (pa.array([[b"\xff"], None], pa.list_(pa.binary())), [["/w=="], None]),
    "list of uuid": (within_list(UUIDS), [[str(ID), None], []]),
    "list of interval": (
        within_list(pa.array([(1, 2, 3)], pa.month_day_nano_interval())),
        [["P1M2DT0.000000003S"], []],
    ),
    "list of far dates": (within_list(far(2**30, pa.date32())), [["2941775-04-07", None], []]),
    "list of far date64": (within_list(far(FAR_DATE, pa.date64())), [["136897320-05-08", None], []]),
    "list of unknown zones": (within_list(far(0, pa.timestamp("s", "Foo"))), [["1970-01-01T00:00:00Z", None], []]),
    "map": (pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int8())), [[["a", 1]], None, []]),
    "map of bytes": (pa.array([[(b"\xff", 1)]], pa.map_(pa.binary(), pa.int8())), [[["/w==", 1]]]),
    "struct": (pa.array([{"a": 1, "b": b"\xff"}, None]), [{"a": 1, "b": "/w=="}, None]),
    "empty struct": (pa.array([{}, None], pa.struct([])), [{}, None]),
    "sparse union": (pa.UnionArray.from_sparse(pa.array([0, 1, 1], pa.int8()), UNION), [1, "b", None]),
    "dense union": (
        pa.UnionArray.from_dense(
            pa.array([5, 7, 5], pa.int8()), pa.array([0, 1, 1], pa.int32()), UNION, type_codes=[5, 7]
        ),
        [1, "b", 2],
    ),
    "dictionary": (indexed(pa.array(["a", None])), [None, "a", None]),
    "dictionary of views": (indexed(pa.array(["a", None], pa.string_view())), [None, "a", None]),
    "dictionary of binary views": (indexed(pa.array([b"\xff"], pa.binary_view())), [None, "/w=="]),
    "dictionary of numbers": (indexed(pa.array([7, 8])), [None, 7, 8]),
    "dictionary of nulls": (indexed(pa.nulls(1)), [None, None]),
    "dictionary of lists": (indexed(pa.array([["a"], None])), [None, ["a"], None]),
    "dictionary of list views": (indexed(pa.array([[1]], pa.list_view(pa.int8()))), [None, [1]]),
    "dictionary of structs": (indexed(pa.array([{"a": 1}])), [None, {"a": 1}]),
    "dictionary of date64": (indexed(far(86_400_000, pa.date64())), [None, "1970-01-02", None]),
    "list of dictionaries of views": (within_list(indexed(pa.array(["a"], pa.string_view()))), [[None, "a"], []]),
    "run ends": (runs(pa.array(["a", None])), ["a", "a", None, None]),
    "run ends of uuid": (runs(UUIDS), [str(ID), str(ID), None, None]),
    "run ends of views": (runs(pa.array([b"\xff"], pa.binary_view())), ["/w==", "/w=="]),
    "run ends of lists": (runs(pa.array([[1], None])), [[1], [1], None, None]),
    "run ends of far date64": (runs(far(FAR_DATE, pa.date64())), ["136897320-05-08"] * 2 + [None] * 2),
    "list of run ends": (within_list(runs(pa.array(["a", None]))), [["a", "a", None, None], []]),
    "no rows of a nested type": (pa.array([None, None], pa.list_(pa.list_(pa.binary()))), [None, None]),
}
# What Parquet cannot hold, or pyarrow cannot write.
NOT_IN_PARQUET = {
    "negative scale",
    "no bytes",
    "far date64",
    "far timestamp",
    "far zone",
    "interval",
    "fixed list of 0",
    "list of interval",
    "list of far date64",
    "empty struct",
    "sparse union",
    "dense union",
    "list of dictionaries of views",
    "run ends of far date64",
    "list of run ends",
}


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("answer", [CSV, NDJSON, JSON], ids=["csv", "ndjson", "json"])
def test_a_column_of_any_type_becomes_text(predictor: Predictor, name: str, answer: Format) -> None:
    """Every value, nulls and the rows of a later batch too."""
    column, expected = COLUMNS[name]
    body, _ = through(ARROW, packed(ARROW, table_with(column), 2), predictor, keep=["note"], answer=answer)
    if answer is not CSV:
        assert [row["note"] for row in unpacked(answer, body)] == expected
        return
    cells = [row["note"] for row in csv.DictReader(io.StringIO(body.decode(), newline=""))]
    assert len(cells) == len(expected)
    for cell, value in zip(cells, expected, strict=True):
        if value is None:
            assert cell == ""
        elif isinstance(value, str) and "union" not in name:
            assert cell.replace(" ", "T") == value
        else:
            assert json.loads(cell) == value


@pytest.mark.parametrize("name", COLUMNS)
def test_a_batch_of_no_rows_is_nothing(predictor: Predictor, name: str) -> None:
    """Alone and in a list: such arrays come without buffers."""
    column, expected = COLUMNS[name]
    for kept, found in ((column, expected), (within_list(column), [expected, []])):
        rows, body = table_with(kept).to_batches()[0], io.BytesIO()
        with pa.ipc.new_stream(body, rows.schema) as writer:
            for part in (rows[:0], rows, rows[-1:]):
                writer.write_batch(part)
        answer, _ = through(ARROW, body.getvalue(), predictor, keep=["note"], answer=NDJSON)
        assert [row["note"] for row in unpacked(NDJSON, answer)] == [*found, found[-1]]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_any_type_stays_in_arrow(predictor: Predictor, name: str) -> None:
    """The same type and the same values."""
    column, _ = COLUMNS[name]
    body, _ = through(ARROW, packed(ARROW, table_with(column)), predictor, keep=["note"], answer=ARROW)
    found = pa.ipc.open_stream(body).read_next_batch()["note"]
    found.validate(full=True)
    assert found.type == column.type
    assert values(found) == values(column)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_any_type_is_in_parquet_or_refused_by_name(predictor: Predictor, name: str) -> None:
    """Before the first byte; with keep=* by its place, since the client has not named it."""
    column, expected = COLUMNS[name]
    body = packed(ARROW, table_with(column))
    if name in NOT_IN_PARQUET:
        for keep, place in (("note", "note: "), ("*", "Column 1 of the kept ones: ")):
            with pytest.raises(ColumnsError) as caught:
                through(ARROW, body, predictor, keep=[keep], answer=PARQUET)
            assert str(caught.value).startswith(place + "Parquet cannot hold its type or its values (")
            assert "Foo" not in str(caught.value)
        return
    found, _ = through(ARROW, body, predictor, keep=["note"], answer=PARQUET)
    column = pa.parquet.read_table(io.BytesIO(found))["note"].chunk(0)
    # Parquet has no seconds.
    assert json.dumps(values(column)).replace('.000"', '"').replace(".000Z", "Z").replace(".000+", "+") == json.dumps(
        [*expected]
    )


@pytest.mark.parametrize("name", COLUMNS)
def test_a_slice_of_a_column_has_the_values_of_its_rows(name: str) -> None:
    """Alone, in a list, in a struct, in a dictionary and in runs."""
    column, expected = COLUMNS[name]

    def found(array: pa.Array) -> list[Any]:
        assert has_text(array.type)
        return values(array)

    for start in range(len(column) + 1):
        assert found(column[start:]) == expected[start:]
        assert found(column[:start]) == expected[:start]
    assert found(within_list(column)[0:1]) == [expected]
    assert found(pa.StructArray.from_arrays([column], ["a"])[1:]) == [{"a": value} for value in expected[1:]]
    assert found(indexed(column)[1:]) == expected
    assert found(runs(column)[1:]) == [value for value in expected for _ in range(2)][1:]


@pytest.mark.parametrize("answer", [CSV, NDJSON, JSON], ids=["csv", "ndjson", "json"])
def test_a_struct_with_a_name_twice_is_refused_where_it_would_be_an_object(
    predictor: Predictor, answer: Format
) -> None:
    """Its names are not in the error."""
    column = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["SURNAME", "SURNAME"])
    for keep, place in (("note", "note: "), ("*", "Column 1 of the kept ones: ")):
        with pytest.raises(ColumnsError) as caught:
            through(ARROW, packed(ARROW, table_with(column)), predictor, keep=[keep], answer=answer)
        assert str(caught.value).startswith(place)
        assert "struct<int64, int64>" in str(caught.value)
        assert "SURNAME" not in str(caught.value)


@pytest.mark.parametrize("answer", FORMATS, ids=lambda f: f.media_type.rpartition("/")[2])
def test_text_of_parquet_that_is_not_utf_8_is_damage(predictor: Predictor, answer: Format) -> None:
    """pyarrow reads it as a string."""
    column = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    with pytest.raises(TableError, match="damaged"):
        through(PARQUET, packed(PARQUET, table_with(column)), predictor, keep=["note"], answer=answer)


@typed
@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array(["1", "0", "1"]), "strings"),
        (pa.array(["1", "0", "1"], pa.string_view()), "strings"),
        (pa.array(["1", "0", "1"]).dictionary_encode(), "strings"),
        (pa.array([True, False, None]), "booleans"),
        (pa.array([b"1"] * 3), "bytes"),
        (pa.array([1, 2, 3], pa.date32()), "type date32"),
        (pa.array([[1]] * 3), "type list<int64>"),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
@pytest.mark.parametrize("report", [True, False])
def test_a_field_of_another_type_than_numbers_is_one_error(
    predictor: Predictor, format_: Format, column: pa.Array, words: str, report: bool
) -> None:
    """It names the field and its type, whatever the number of rows, and no result is written."""
    table = table_with(pa.nulls(3))
    for name in ("sex", "chol"):
        table = table.set_column(table.schema.get_field_index(name), name, column)
    with pytest.raises(ColumnsError) as caught:
        through(format_, packed(format_, table), predictor, keep=["note"], report=report)
    assert caught.value.columns == [
        ("sex", f"Sex is a column of {words}; it must hold numbers"),
        ("chol", f"Serum cholesterol is a column of {words}; it must hold numbers"),
    ]


def test_a_field_of_runs_or_a_dictionary_of_numbers_is_numbers(predictor: Predictor) -> None:
    """And so is a column of strings that has none of them: pandas and polars have no type for a column of nulls."""
    table = pa.Table.from_pylist([dict(EXAMPLE)] * 2)
    for name, column in {
        "sex": runs(pa.array([1], pa.int8())),
        "cp": pa.array([1, 1]).dictionary_encode(),
        "chol": pa.array([None, None], pa.string()),
        "ca": pa.array([None, None], pa.bool_()),
    }.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    body, tally = through(ARROW, packed(ARROW, table), predictor, answer=NDJSON)
    assert [row["missing"] for row in unpacked(NDJSON, body)] == [["chol", "ca"]] * 2
    assert tally.bad == 0


def test_strings_in_a_later_batch_are_invalid_rows(predictor: Predictor) -> None:
    """When results have begun, no row is lost."""
    table = pa.Table.from_pylist([dict(EXAMPLE)] * 4)
    chol = pa.array([None, None, "x", None])
    table = table.set_column(table.schema.get_field_index("chol"), "chol", chol)
    _, tally = through(ARROW, packed(ARROW, table, 2), predictor)
    assert (tally.rows, [(fault.row, fault.column) for fault in tally.faults]) == (4, [(2, "chol")])


@pytest.mark.parametrize("unit", [0, 1], ids=["months", "days"])
@pytest.mark.parametrize("name", ["note", "age"])
@pytest.mark.parametrize("answer", FORMATS, ids=lambda f: f.media_type.rpartition("/")[2])
def test_an_interval_that_cannot_be_read_is_refused_by_name(
    predictor: Predictor, unit: int, name: str, answer: Format
) -> None:
    """pyarrow knows the types of months, and of days and milliseconds, but has no arrays of them."""
    table = table_with(pa.array([(1, 2, 3)], pa.month_day_nano_interval()))
    table = table.rename_columns({"note": name, name: "note"} if name == "age" else {})
    body, kind = packed(ARROW, table), ("month_interval", "day_time_interval")[unit]
    # The type's unit is a 16-bit number of the schema message: 2 in this table.
    bodies = [body[:i] + bytes([unit]) + body[i + 1 :] for i in range(400) if body[i : i + 2] == b"\2\0"]
    (body,) = [body for body in bodies if kind in _types(body)]
    expected = {"age": f"age: Age is a column of type {kind}; ", "note": f"note: pyarrow cannot hold .* [(]{kind}[)]"}
    with pytest.raises(ColumnsError, match=expected[name]):
        through(ARROW, body, predictor, keep=["note"], answer=answer)


def _types(body: bytes) -> list[str]:
    try:
        return [str(kind) for kind in pa.ipc.open_stream(body).schema.types]
    except (pa.ArrowException, OSError):
        return []
