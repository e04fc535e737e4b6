"""Random requests: tables in every format, valid and damaged."""

import gzip
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

from patient.record import EXAMPLE

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
TYPES = (JSON, NDJSON, CSV, ARROW, PARQUET)
FORM = "multipart/form-data; boundary=part"
ODD_TYPES = (
    *TYPES,
    FORM,
    "text/plain",
    "",
    "application/json; charset=utf-16",
    "multipart/form-data",
    "\xff",
    "a" * 300,
)
QUERIES = ("", "", "?on_error=report", "?on_error=refuse", "?keep=*", "?keep=note", "?keep=%00", "?on_error=x", "?a=b")
ACCEPTS = ("", "", "*/*", *TYPES, "text/html", "application/json;q=x", ",;=,", "text/*;q=0.1")
SIZES = (0, 1, 1, 2, 5, 60, 300)  # rows
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


@dataclass(frozen=True, slots=True)
class Request:
    """A POST request. is_honest: the headers announce the body as it is sent"""

    path: str
    body: bytes
    headers: list[tuple[str, str]]
    is_honest: bool = True


def request(rng: random.Random) -> Request:
    """Make a random request; about one in eight is valid."""
    kind = rng.choice(TYPES)
    body = valid(kind, rng) if rng.random() < 0.9 else rng.randbytes(rng.choice((0, 1, 3, 8, 100, 5000)))
    compression = rng.choice(("", "", "", "gzip", "zstd"))
    if rng.random() < 0.25:
        name = rng.choice(("a.csv", "a.ndjson.gz", "a.json", "a.arrow", "a.parquet", "a.parquet.zst", "a", "", "\\"))
        body, kind = form(body, name), FORM
    damaged = rng.random() < 0.85
    if damaged and (not compression or rng.random() < 0.7):
        body = damage(body, rng)
    if compression:
        body = gzip.compress(body, 1) if compression == "gzip" else pa.compress(body, "zstd", asbytes=True)
        if damaged and rng.random() < 0.4:
            body = damage(body, rng)
    headers = [("Content-Type", kind if rng.random() < 0.9 else rng.choice(ODD_TYPES))]
    if compression or rng.random() < 0.03:
        encoding = compression if rng.random() < 0.95 else rng.choice(("gzip", "zstd", "br", "x", ""))
        headers.append(("Content-Encoding", encoding))
    if accept := rng.choice(ACCEPTS):
        headers.append(("Accept", accept))
    path, missing = "/predict", 0
    if rng.random() >= 0.1:
        missing = rng.choice((1, 1000, 10**9)) if rng.random() < 0.02 else 0
        path = "/predict/batch" + rng.choice(QUERIES)
    return Request(path, body, [*headers, ("Content-Length", str(len(body) + missing))], not missing)


def rows(rng: random.Random) -> list[dict[str, object]]:
    """Patients, some with invalid values, sometimes with an additional column."""
    count = rng.choice(SIZES)
    odd_values: tuple[object, ...] = (
        None,
        -1,
        1e300,
        float("nan"),
        "x" * 50,
        True,
        2**70,
        0.5,
        [],
        "",
        "\ud7ff\x00",
    )
    found = [dict(EXAMPLE) for _ in range(count)]
    for record in found if rng.random() < 0.4 else ():
        if rng.random() < 0.2:
            record[rng.choice(list(EXAMPLE))] = rng.choice(odd_values)
    for record in found if rng.random() < 0.3 else ():
        record["note"] = rng.choice(("a", 'b"\n', None, "é" * 9))
    return found


def valid(kind: str, rng: random.Random) -> bytes:
    """Encode a valid table in this format."""
    records = rows(rng)
    if kind == JSON:
        return json.dumps(records if rng.random() < 0.8 else records[:1]).encode()
    if kind == NDJSON:
        return b"".join(json.dumps(record).encode() + b"\n" for record in records)
    if kind == CSV:
        lines = [",".join(EXAMPLE), *(",".join(str(record[name]) for name in EXAMPLE) for record in records)]
        return "\n".join(lines).encode()
    table = arrow(records, rng)
    sink = io.BytesIO()
    if kind == PARQUET:
        version, compression = rng.choice(("1.0", "2.4", "2.6")), rng.choice(("none", "snappy", "gzip", "zstd", "lz4"))
        pq.write_table(
            table, sink, version=version, compression=compression, use_dictionary=rng.random() < 0.5,
            row_group_size=rng.choice((1, 7, 1000)), data_page_version=rng.choice(("1.0", "2.0")),
            write_statistics=rng.random() < 0.5,
        )  # fmt: skip
    elif rng.random() < 0.2:
        pyarrow.feather.write_feather(table, sink, compression=rng.choice(("lz4", "zstd", "uncompressed")))
    else:
        options = pa.ipc.IpcWriteOptions(compression=rng.choice((None, None, "lz4", "zstd")))
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table, rng.choice((1, 7, 1000)))
    return sink.getvalue()


def arrow(records: list[dict[str, object]], rng: random.Random) -> pa.Table:
    """The records as columns of random numeric types."""
    kinds: tuple[pa.DataType, ...] = (
        pa.float64(),
        pa.float32(),
        pa.float16(),
        pa.int64(),
        pa.uint8(),
        pa.int16(),
        pa.decimal128(9, 3),
    )
    kinds += (pa.dictionary(pa.int8(), pa.float64()), pa.string(), pa.bool_(), pa.null(), pa.list_(pa.int8()))
    columns = {}
    for name, value in EXAMPLE.items():
        kind = rng.choice(kinds) if rng.random() < 0.15 else pa.float64()
        numbers = pa.array([value if rng.random() < 0.97 else None for _ in records], pa.float64())
        try:
            columns[name] = numbers.dictionary_encode() if pa.types.is_dictionary(kind) else numbers.cast(kind)
        except pa.ArrowException:
            columns[name] = numbers
    if rng.random() < 0.3:
        columns["note"] = pa.array([rng.choice(("a", None, "é" * 9)) for _ in records], pa.string())
    return pa.table(columns)


def form(body: bytes, name: str) -> bytes:
    """Encode a table as a file in a form."""
    head = f'--part\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + body + b"\r\n--part--\r\n"


def damage(body: bytes, rng: random.Random) -> bytes:
    """Damage the bytes in one to six ways."""
    data = bytearray(body)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        rng.choice(DAMAGES)(data, rng)
    return bytes(data)


def _position(data: bytearray, rng: random.Random) -> int:
    """A random position, more often near the ends, where the formats keep their metadata."""
    return min(
        len(data), rng.choice((rng.randrange(len(data) + 1), rng.randrange(300), len(data) - rng.randrange(300)))
    )


def _flip(data: bytearray, rng: random.Random) -> None:
    if data:
        data[_position(data, rng) % len(data)] ^= 1 << rng.randrange(8)


def _number(data: bytearray, rng: random.Random) -> None:
    width = rng.choice((1, 2, 4, 8))
    start = _position(data, rng) // width * width
    data[start : start + width] = (rng.choice(EXTREMES) % 2 ** (8 * width)).to_bytes(width, "little")


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[_position(data, rng) :]


def _lose(data: bytearray, rng: random.Random) -> None:
    start = max(0, _position(data, rng))
    del data[start : start + rng.choice((1, 4, 8, 100))]


def _repeat(data: bytearray, rng: random.Random) -> None:
    start = max(0, _position(data, rng))
    data[start:start] = data[start : start + rng.choice((1, 8, 200))] * rng.choice((1, 2, 50))


def _insert(data: bytearray, rng: random.Random) -> None:
    start = max(0, _position(data, rng))
    data[start:start] = rng.choice((b"\0" * 9, b"\xff" * 9, b'"', b"{", b"[" * 300, b",", b"\r\n", rng.randbytes(20)))


def _splice(data: bytearray, rng: random.Random) -> None:
    other = valid(rng.choice(TYPES), rng)
    data[max(0, _position(data, rng)) :] = other[rng.randrange(len(other) + 1) :]


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...]
DAMAGES = (_flip, _flip, _number, _number, _number, _cut, _lose, _repeat, _insert, _splice)


def number(old: int, width: int, rng: random.Random) -> bytes:
    """Another number of so many bytes: an extreme one, or one near the old."""
    near = (old + 1, old - 1, old * 2, old // 2, old + 8, -old, old ^ 1, old << 8)
    changed: int = rng.choice((*EXTREMES, *near, *near)) % 2 ** (8 * width)
    return changed.to_bytes(width, "little")


def overwrite(data: bytearray, place: int, width: int, rng: random.Random) -> None:
    """Replace the number at a place."""
    if 0 <= place <= len(data) - width:
        data[place : place + width] = number(int.from_bytes(data[place : place + width], "little"), width, rng)
