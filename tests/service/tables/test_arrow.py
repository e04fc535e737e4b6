"""Arrow as other libraries write it: files by their footer, streams with and without marks."""

import contextlib
import io
import struct
from collections.abc import Callable
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from patient.record import EXAMPLE, FIELDS
from service.model.predictor import Predictor
from service.records.errors import TableError, TooLarge
from service.tables.arrow import END_MARK, FILE_MARK
from service.tables.formats import ARROW, NDJSON
from service.tables.source import Limits
from tests.service.tables.conftest import through, unpacked

ROWS = [EXAMPLE | {"age": 40 + i, "mrn": f"m{i % 2}"} for i in range(5)]
TABLE = pa.Table.from_pylist(ROWS)
DICTIONARIES = TABLE.set_column(TABLE.schema.get_field_index("mrn"), "mrn", TABLE["mrn"].dictionary_encode())
DICTIONARIES = DICTIONARIES.set_column(0, "age", TABLE["age"].dictionary_encode())
COMPRESSIONS = [None, "lz4", "zstd"]


def by_pyarrow(table: pa.Table, new: Callable[..., Any] = pa.ipc.new_file, rows: int = 2, **options: Any) -> bytes:
    file = io.BytesIO()
    with new(file, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, rows)
    return file.getvalue()


def by_polars(compression: Any, **types: Any) -> bytes:
    file = io.BytesIO()
    pl.DataFrame(ROWS, schema_overrides=types).write_ipc(file, compression=compression)
    return file.getvalue()


def javascript() -> bytes:
    """A file without the schema and the end mark between the magic and the footer, as apache-arrow's may be."""
    content = by_pyarrow(TABLE)
    start, stop = content.index(b"\xff" * 4), content.index(b"\xff" * 4, 12)
    return content[:start] + b"\0" * (stop - start) + content[stop:].replace(END_MARK, b"\0" * 8, 1)


def legacy(table: pa.Table) -> bytes:
    return by_pyarrow(table, pa.ipc.new_stream, use_legacy_format=True)


def probabilities(predictor: Predictor, body: bytes) -> list[dict[str, Any]]:
    found, _ = through(ARROW, body, predictor, keep=["mrn"], answer=NDJSON)
    return unpacked(NDJSON, found)


STREAM = by_pyarrow(TABLE, pa.ipc.new_stream)
FORMS = {
    **{f"file, {name}": by_pyarrow(TABLE, compression=name) for name in COMPRESSIONS},
    **{f"polars, {name}": by_polars(name) for name in ("uncompressed", "lz4", "zstd")},
    "polars, categorical": by_polars("zstd", mrn=pl.Categorical),
    "javascript": javascript(),
    "file, dictionaries": by_pyarrow(DICTIONARIES, rows=5),
    "stream": STREAM,
    "without its end, as Go writes it": STREAM.removesuffix(END_MARK),
    "before 0.15": legacy(TABLE),
    "before 0.15, without its end": legacy(TABLE).removesuffix(b"\0" * 4),
    "empty batches": by_pyarrow(pa.concat_tables([TABLE[:0], TABLE]), pa.ipc.new_stream),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read(predictor: Predictor, form: str) -> None:
    """To the same results, with kept columns."""
    expected = probabilities(predictor, STREAM)
    assert [row["mrn"] for row in expected] == ["m0", "m1", "m0", "m1", "m0"]
    assert probabilities(predictor, FORMS[form]) == expected


@pytest.mark.parametrize("form", FORMS)
def test_what_is_cut_off_is_an_error(predictor: Predictor, form: str) -> None:
    """Anywhere within a message or the footer; a stream that ends between two messages looks like a whole one."""
    body = FORMS[form]
    whole = probabilities(predictor, body)
    for size in range(0, len(body), 7):
        try:
            found = probabilities(predictor, body[:size])
        except TableError:
            continue
        assert not body.startswith(FILE_MARK)
        assert found == whole[: len(found)]


def test_a_footer_that_lies_is_an_error(predictor: Predictor) -> None:
    """About its length, or about where blocks are and how large."""
    body = by_pyarrow(TABLE)
    (length,) = struct.unpack("<i", body[-10:-6])
    for false in (-1, 0, 2**31 - 1, length + 8, length - 8):
        with pytest.raises(TableError):
            probabilities(predictor, body[:-10] + struct.pack("<i", false) + body[-6:])
    footer = len(body) - 10 - length
    for place in range(footer, len(body) - 10):
        for byte in (0, 0x7F, 0x80, 0xFF):
            damaged = bytearray(body)
            damaged[place] = byte
            with contextlib.suppress(TableError, TooLarge):  # or it makes no difference
                probabilities(predictor, bytes(damaged))


def test_batches_of_files_have_the_limits_of_streams(predictor: Predictor) -> None:
    """As they are in the file, and decompressed."""
    rows = pa.table({name: [EXAMPLE[name]] * 100_000 for name in FIELDS})
    for compression in COMPRESSIONS:
        body = by_pyarrow(rows, rows=100_000, compression=compression)
        with pytest.raises(TooLarge, match="Arrow batch"):
            through(ARROW, body, predictor, limits=Limits(part=2**20))


def test_sizes_of_buffers_cannot_cancel_out(predictor: Predictor) -> None:
    """A negative one beside a huge one."""
    rows = pa.table({name: [EXAMPLE[name]] * 1000 for name in FIELDS})
    body = by_pyarrow(rows, pa.ipc.new_stream, rows=1000, compression="lz4")
    declared = struct.pack("<q", 8000)
    assert body.count(declared) >= 2
    first = body.index(declared)
    second = body.index(declared, first + 8)
    damaged = bytearray(body)
    damaged[first : first + 8], damaged[second : second + 8] = struct.pack("<q", 2**40), struct.pack("<q", -(2**40))
    with pytest.raises(TableError):
        through(ARROW, bytes(damaged), predictor)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"FEA1" + bytes(100), "Feather file of version 1"),
        (b"PAR1" + bytes(100), "Parquet"),
        (b"age,sex,cp\n63,1,1\n", "text, such as CSV or JSON"),
        (b'[{"age": 63}]' * 10, "text, such as CSV or JSON"),
        (b"\x1f\x8b\x08" + bytes(100), "gzip"),
        (b"\x28\xb5\x2f\xfd" + bytes(100), "zstd"),
        (b"PK\x03\x04" + bytes(100), "xlsx"),
    ],
)
def test_other_formats_are_named(predictor: Predictor, body: bytes, name: str) -> None:
    with pytest.raises(TableError, match=name):
        through(ARROW, body, predictor)


def test_rows_without_bytes_have_a_limit(predictor: Predictor) -> None:
    """Columns of nulls take no bytes, however many rows a batch declares."""
    limits = Limits(part=20_000)
    most = limits.part // len(FIELDS)

    def body(rows: int) -> bytes:
        nulls = pa.table({name: pa.nulls(rows) for name in FIELDS})
        return by_pyarrow(nulls, pa.ipc.new_stream, rows=rows)

    _, tally = through(ARROW, body(most), predictor, limits=limits)
    assert tally.rows == most
    with pytest.raises(TooLarge, match="Arrow batch"):
        through(ARROW, body(most + 1), predictor, limits=limits)
    with pytest.raises(TooLarge, match="Arrow batch"):
        through(ARROW, body(10**9), predictor, limits=Limits())


def test_a_negative_number_of_rows_is_damage(predictor: Predictor) -> None:
    content = by_pyarrow(pa.table({name: pa.nulls(12_345) for name in FIELDS}), pa.ipc.new_stream, rows=12_345)
    counts = struct.pack("<q", 12_345), struct.pack("<q", -12_345)
    with pytest.raises(TableError, match="damaged"):
        through(ARROW, content.replace(*counts), predictor)


def test_a_batch_of_the_smallest_numbers_may_have_the_limit(predictor: Predictor) -> None:
    """One byte per number: as many rows as fit."""
    rows = 100_000
    content = pa.table({name: pa.array([EXAMPLE[name]] * rows).cast(pa.uint8(), safe=False) for name in FIELDS})
    _, tally = through(ARROW, by_pyarrow(content, rows=rows), predictor, limits=Limits(part=rows * len(FIELDS) + 1000))
    assert tally.rows == rows
