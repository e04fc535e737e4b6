"""A table that is cut off, damaged or a decompression bomb is refused and breaks nothing."""

import contextlib
import gzip
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patient.csv import MAX_COLUMNS
from patient.record import EXAMPLE, FIELDS
from service.model.predictor import Predictor
from service.records.errors import RecordError, TableError, TooLarge
from service.tables.formats import ARROW, CSV, NDJSON, PARQUET, Format
from service.tables.source import Limits, iter_pieces, open_source
from tests.service.tables.conftest import CELLS, HEADER, LINE, Pieces, each, packed, through


@each
def test_a_body_cut_off_anywhere_is_never_taken_for_a_whole_one(
    predictor: Predictor, table: pa.Table, format_: Format
) -> None:
    """For formats that mark their end. CSV and NDJSON do not: HTTP marks it, and a cut line is an invalid row."""
    body = packed(format_, table.select(FIELDS).slice(0, 20), 5)
    for end in range(0, len(body) - 1, 7):
        try:
            _, tally = through(format_, body[:end], predictor)
        except RecordError:
            continue
        assert format_ in (CSV, NDJSON)
        assert tally.rows - tally.bad <= 20


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
@each
def test_a_compressed_table_is_read_and_refused_when_damaged(
    predictor: Predictor, table: pa.Table, format_: Format, packing: str
) -> None:
    """Both compressions, in pieces, with two members; refused when cut off or damaged."""
    body = packed(format_, table.select(FIELDS), 100)
    half = len(body) // 2
    small = b"".join(pa.compress(part, packing, asbytes=True) for part in (body[:half], body[half:]))
    plain, _ = through(format_, body, predictor, report=False, answer=NDJSON)
    pieces = [small[i : i + 700] for i in range(0, len(small), 700)]
    assert through(format_, pieces, predictor, report=False, answer=NDJSON, packing=packing)[0] == plain
    for broken in (small[: half // 20], small[:-1], b"\0" + small, small[:30] + b"\xff\xff\xff" + small[33:]):
        with pytest.raises(RecordError):
            through(format_, broken, predictor, packing=packing)


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_a_bomb_is_refused(predictor: Predictor, packing: str) -> None:
    """By its decompressed size, and by the ratio of that to its compressed size."""
    bomb = pa.compress(HEADER + b"\n" * 50_000_000, packing, asbytes=True)
    with pytest.raises(TooLarge, match="200 times"):
        through(CSV, bomb, predictor, packing=packing)
    with pytest.raises(TooLarge, match="1000000 bytes"):
        through(CSV, bomb, predictor, packing=packing, limits=Limits(unpacked=1_000_000))


def test_empty_gzip_members_have_a_limit(predictor: Predictor) -> None:
    """Each of their 20 bytes costs far more work than a byte of content; some between others are honest."""
    line, empty = gzip.compress(LINE + b"\n"), gzip.compress(b"")
    _, tally = through(NDJSON, (line + empty * 900) * 3, predictor, packing="gzip")
    assert (tally.rows, tally.bad) == (3, 0)
    with pytest.raises(TooLarge, match="empty"):
        through(NDJSON, line + empty * 2000, predictor, packing="gzip")


def zstd_frame(window: int) -> bytes:
    """A zstd frame with the text abc, and this descriptor of its window."""
    return bytes.fromhex("28b52ffd") + bytes([0, window]) + (3 << 3 | 1).to_bytes(3, "little") + b"abc"


@pytest.mark.parametrize(
    "before",
    [b"", pa.compress(b"abc" * 1000, "zstd", asbytes=True), zstd_frame(0)],
    ids=["alone", "second", "behind a small one"],
)
def test_a_large_zstd_window_is_refused(before: bytes) -> None:
    """Its decompressor allocates it, whatever comes: eight clients with 128 MiB each took more than 1 GiB."""
    for window in (13 << 3 | 1, 14 << 3, 17 << 3, 255):
        with pytest.raises(TooLarge, match="window"):
            read_all([before, zstd_frame(window)])
    assert read_all([before, zstd_frame(13 << 3)]).endswith(b"abc")


@pytest.mark.parametrize("size", [1, 3, 1000, 10**6])
def test_zstd_frames_are_read_in_any_pieces(size: int) -> None:
    """Of stored, repeated and compressed blocks, one after the other, with frames to skip between them."""
    content = np.random.default_rng(1).bytes(300_000) + b"ab" * 200_000 + bytes(300_000)
    skipped = bytes.fromhex("532a4d18") + (5).to_bytes(4, "little") + b"hello"
    small = [pa.compress(part, "zstd", asbytes=True) for part in (content, b"", b"x")]
    body = skipped.join([small[0], *small])
    assert read_all([body[i : i + size] for i in range(0, len(body), size)]) == content * 2 + b"x"


def read_all(pieces: list[bytes]) -> bytes:
    return b"".join(iter_pieces(open_source(Pieces(pieces), "zstd", Limits(ratio=10**6))))


@pytest.mark.parametrize("format_", [ARROW, PARQUET], ids=["arrow", "parquet"])
def test_columns_have_a_limit(predictor: Predictor, format_: Format) -> None:
    """The one of CSV; Arrow's schema is refused before any column is built."""

    def body(count: int) -> bytes:
        others = {f"c{i}": pa.array([1], pa.int8()) for i in range(count - len(FIELDS))}
        return packed(format_, pa.table({name: [EXAMPLE[name]] for name in FIELDS} | others))

    _, tally = through(format_, body(1000), predictor, keep=["*"])
    assert (tally.rows, tally.bad) == (1, 0)
    with pytest.raises(TooLarge, match="more than 16384 columns"):
        through(format_, body(MAX_COLUMNS + 1), predictor, keep=["*"])


@each
def test_the_limit_of_columns_holds_in_every_format(predictor: Predictor, format_: Format) -> None:
    table = pa.table({name: [float(EXAMPLE[name])] for name in FIELDS} | {f"c{i}": [1.0] for i in range(7)})
    through(format_, packed(format_, table), predictor, keep=["*"], limits=Limits(columns=20))
    with pytest.raises(TooLarge, match="more than 19 columns"):
        through(format_, packed(format_, table), predictor, keep=["*"], limits=Limits(columns=19))


def test_a_bomb_in_arrow_is_refused_before_it_is_unpacked(predictor: Predictor) -> None:
    """By the sizes that its buffers declare."""
    batch = pa.record_batch({name: pa.array(np.full(2_000_000, EXAMPLE[name], float)) for name in FIELDS})
    out = io.BytesIO()
    with pa.ipc.new_stream(out, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    assert len(out.getvalue()) < 1_000_000
    with pytest.raises(TooLarge, match="smaller ones"):
        through(ARROW, out.getvalue(), predictor, limits=Limits(part=100_000_000))
    _, tally = through(ARROW, out.getvalue(), predictor)
    assert (tally.rows, tally.bad) == (2_000_000, 0)


def test_a_bomb_in_parquet_is_refused_before_it_is_unpacked(predictor: Predictor) -> None:
    """By the sizes in its footer."""
    body = packed(PARQUET, pa.table({name: pa.array(np.full(2_000_000, EXAMPLE[name], float)) for name in FIELDS}))
    with pytest.raises(TooLarge, match="Decompressed"):
        through(PARQUET, body, predictor, limits=Limits(unpacked=100_000))


def test_a_line_without_end_is_refused(predictor: Predictor) -> None:
    """It would have to be in memory as a whole."""
    for format_, start in ((CSV, HEADER + b'\n"'), (NDJSON, b'{"')):
        with pytest.raises(TooLarge):
            through(format_, [start, *[b"x" * 100_000] * 30], predictor)


def test_a_quote_that_never_closes_is_refused(predictor: Predictor) -> None:
    """It would swallow all rows after it."""
    with pytest.raises(TableError, match="never closed"):
        through(CSV, HEADER + b",mrn\n" + CELLS + b',"x\n' + CELLS + b",y\n", predictor, keep=["mrn"])


def test_more_after_the_end_of_an_arrow_stream_is_refused(predictor: Predictor, table: pa.Table) -> None:
    """Two streams in one body would lose the second."""
    body = packed(ARROW, table.select(FIELDS))
    with pytest.raises(TableError, match="one stream"):
        through(ARROW, body * 2, predictor)


@given(data=st.binary(max_size=300), at=st.integers(0, 2000))
@settings(deadline=None, max_examples=600)
@pytest.mark.parametrize("format_", [ARROW, PARQUET], ids=["arrow", "parquet"])
def test_random_bytes_in_a_binary_format_is_refused_or_read_and_breaks_nothing(
    predictor: Predictor, table: pa.Table, format_: Format, data: bytes, at: int
) -> None:
    """A damaged byte may read as a value; it never causes a crash or an error of another type."""
    body = packed(format_, table.select(FIELDS).slice(0, 3))
    at %= len(body)
    with contextlib.suppress(RecordError):
        through(format_, body[:at] + data + body[at + len(data) :], predictor, limits=Limits(part=10_000_000))
