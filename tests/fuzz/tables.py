"""Random tables of every Arrow type, as pyarrow's own writers write them: valid files, with odd columns and options."""

import io
import random
import struct
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq

from patient.record import EXAMPLE

SIZES = (0, 1, 2, 2, 5, 5, 20, 20, 60, 60, 300)  # rows
COUNTS = (0, 1, -1, 59, 86_399, 2**31 - 1, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63), 253_402_300_800)
TEXTS = ("", "a", "é" * 9, "x" * 13, "1", "null", '"\\', "a,b", "\r\n", "\0", "\ud7ff", "x" * 5000, "NaN", "0x1p4")
UNITS = ("s", "ms", "us", "ns")
ZONES = ("UTC", "Europe/Vienna", "+25:61", "-00:00", "Nowhere/None", "America/Argentina/ComodRivadavia", "", "é", "\0")
NAMES = (
    *("note", "mrn", "ward", "", " ", "a,b", "é", "\0", "\n", "Unnamed: 0", "__index_level_0__", "x" * 3000, "note "),
    *("visit", "site", "error", "AGE", "*", '"', "a.b", "list.element", "name\\", "\u202e", "%00", "{}", "-1"),
)
PRIMITIVES: tuple[pa.DataType, ...] = (
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64(), pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms")),
    *(pa.time64("us"), pa.time64("ns"), pa.month_day_nano_interval(), pa.bool_()),
)
TEXT_TYPES: tuple[pa.DataType, ...] = (
    *(pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()),
)
METADATA = {
    b"pandas": b'{"index_columns": [[[[',
    b"ARROW:schema": b"/////w==",
    b"PARQUET:field_id": b"-2147483648",
    b"ARROW:extension:name": b"arrow.uuid",
    b"ARROW:extension:metadata": b"\xff\0" * 40,
    b"": b"",
}
COMPRESSIONS = ("none", "snappy", "gzip", "zstd", "lz4", "brotli")
ENCODINGS = ("PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "RLE", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY")


def table(rng: random.Random) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """A table that is accepted more often than not: the 13 fields of any type, and up to three other columns."""
    columns = [_field(name, rng) for name in EXAMPLE]
    columns += [(name, array(rng)) for name in rng.sample(NAMES, rng.choice((0, 1, 1, 2, 3)))]
    if rng.random() < 0.3:
        rng.shuffle(columns)
    if rng.random() < 0.02:
        columns.append(rng.choice(columns))
    sizes = [rng.choice(SIZES) for _ in range(rng.choice((0, *(1,) * 9, *(2,) * 5, 5)))]
    made = [[make(size) for _, make in columns] for size in (0, *sizes)]  # the first for the types
    fields = [
        pa.field(name, column.type, rng.random() < 0.9 or column.type == pa.null(), _metadata(rng))
        for (name, _), column in zip(columns, made[0], strict=True)
    ]
    schema = pa.schema(fields, _metadata(rng))
    batches = []
    for arrays in made[1:]:
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        batches.append(batch.slice(rng.choice((0, 1, 1, 3))) if rng.random() < 0.2 else batch)
    return schema, batches


Make = Callable[[int], pa.Array]


def _metadata(rng: random.Random) -> dict[bytes, bytes] | None:
    return dict(rng.sample(list(METADATA.items()), rng.choice((1, 2)))) if rng.random() < 0.01 else None


def _field(name: str, rng: random.Random) -> tuple[str, Make]:
    """A column of the record: mostly of numbers as they should be, now and then of anything."""
    if rng.random() < 0.01:
        return name, array(rng)
    chance = rng.random()
    kinds: tuple[pa.DataType, ...] = (pa.float32(), pa.decimal128(9, 3), pa.decimal256(50, 4), pa.decimal32(9, 2))
    kinds += () if name == "oldpeak" else (pa.int16(), pa.int64(), pa.uint16(), pa.decimal64(12, 0))
    kind = rng.choice(kinds) if chance < 0.2 else pa.float64()
    encoding = rng.choice((_dictionary_encoded, _run_end_encoded, _extended)) if rng.random() < 0.05 else None
    nulls = rng.choice((0, 0, 0.05))

    def make(size: int) -> pa.Array:
        values = [None if rng.random() < nulls else EXAMPLE[name] for _ in range(size)]
        column = pa.array(values, pa.float64()).cast(kind, safe=False)
        return encoding(column) if encoding else column

    return name, make


def _dictionary_encoded(column: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(range(len(column)), pa.int32()), column)


def _run_end_encoded(column: pa.Array) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array(range(1, len(column) + 1), pa.int32()), column)


def _extended(column: pa.Array) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.opaque(column.type, "a", "b"), column)


def array(rng: random.Random, depth: int = 0) -> Make:
    """A maker of arrays of one random type, which holds others up to three deep."""
    nested = (_list, _list_view, _fixed_list, _struct, _map, _union, _dictionary, _runs, _extension)
    if depth < 3 and rng.random() < 0.5:
        return rng.choice(nested)(rng, depth + 1)
    return rng.choice((_primitive, _primitive, _text, _text, _other))(rng, depth)


def _validity(size: int, rng: random.Random) -> pa.Buffer | None:
    return pa.py_buffer(rng.randbytes(size // 8 + 1)) if rng.random() < 0.5 else None


def _primitive(rng: random.Random, _: int) -> Make:
    kinds = (*PRIMITIVES, *(pa.timestamp(unit, rng.choice((None, *ZONES))) for unit in UNITS))
    kind = rng.choice((*kinds, *map(pa.duration, UNITS)))

    def make(size: int) -> pa.Array:
        width = max(kind.bit_width // 8, 1)
        counts = [rng.choice(COUNTS) if rng.random() < 0.3 else rng.randrange(2000) for _ in range(size)]
        data = b"".join((count % 2 ** (8 * width)).to_bytes(width, "little") for count in counts)
        return pa.Array.from_buffers(kind, size, [_validity(size, rng), pa.py_buffer(data)])

    return make


def _text(rng: random.Random, _: int) -> Make:
    kind = rng.choice(TEXT_TYPES)
    return lambda size: pa.array([rng.choice((None, *TEXTS)) for _ in range(size)], kind)


def _other(rng: random.Random, _: int) -> Make:
    if rng.random() < 0.3:
        return lambda size: pa.nulls(size)
    if rng.random() < 0.3:
        width = rng.choice((0, 1, 16, 300))
        kind = pa.binary(width)
        return lambda size: pa.array([rng.randbytes(width) for _ in range(size)], kind)
    digits = rng.choice((1, 9, 18, 38, 76))
    decimal = pa.decimal256 if digits > 38 else rng.choice((pa.decimal128, pa.decimal256))
    kind = decimal(digits, rng.choice((0, 1, digits, -5, -digits)))

    def make(size: int) -> pa.Array:
        width = kind.bit_width // 8
        bound = 10 ** (digits + (rng.random() < 0.1)) - 1  # sometimes more digits than the type allows
        data = b"".join(
            rng.randint(-bound, bound).to_bytes(width + 1, "little", signed=True)[:width] for _ in range(size)
        )
        return pa.Array.from_buffers(kind, size, [_validity(size, rng), pa.py_buffer(data)])

    return make


def _offsets(size: int, rng: random.Random, code: str) -> tuple[int, pa.Buffer]:
    """The number of values, and the offsets of lists of up to three each."""
    found = [0]
    for _ in range(size):
        found.append(found[-1] + rng.randrange(4))
    return found[-1], pa.py_buffer(struct.pack(f"<{size + 1}{code}", *found))


def _list(rng: random.Random, depth: int) -> Make:
    inner, (make_type, code) = array(rng, depth), rng.choice(((pa.list_, "i"), (pa.large_list, "q")))

    def make(size: int) -> pa.Array:
        count, offsets = _offsets(size, rng, code)
        values = inner(count)
        return pa.Array.from_buffers(make_type(values.type), size, [_validity(size, rng), offsets], children=[values])

    return make


def _list_view(rng: random.Random, depth: int) -> Make:
    inner, (make_type, code) = array(rng, depth), rng.choice(((pa.list_view, "i"), (pa.large_list_view, "q")))

    def make(size: int) -> pa.Array:
        values = inner(7)
        starts = [rng.randrange(7) for _ in range(size)]  # in any order, and over each other
        lengths = [rng.randrange(8 - start) for start in starts]
        bounds = [pa.py_buffer(struct.pack(f"<{size}{code}", *numbers)) for numbers in (starts, lengths)]
        return pa.Array.from_buffers(make_type(values.type), size, [_validity(size, rng), *bounds], children=[values])

    return make


def _fixed_list(rng: random.Random, depth: int) -> Make:
    inner, width = array(rng, depth), rng.choice((0, 1, 3))

    def make(size: int) -> pa.Array:
        values = inner(size * width)
        kind = pa.list_(values.type, width)
        return pa.Array.from_buffers(kind, size, [_validity(size, rng)], children=[values])

    return make


def _struct(rng: random.Random, depth: int) -> Make:
    inner = [(rng.choice(NAMES), array(rng, depth)) for _ in range(rng.choice((0, 1, 2, 3)))]

    def make(size: int) -> pa.Array:
        columns = [(name, part(size)) for name, part in inner]
        kind = pa.struct([pa.field(name, column.type) for name, column in columns])
        return pa.Array.from_buffers(kind, size, [_validity(size, rng)], children=[column for _, column in columns])

    return make


def _map(rng: random.Random, depth: int) -> Make:
    kind_of_key, items = rng.choice(TEXT_TYPES), array(rng, depth)

    def make(size: int) -> pa.Array:
        count, offsets = _offsets(size, rng, "i")
        found = (
            pa.array([rng.choice(TEXTS) for _ in range(count)], kind_of_key),
            items(count),
        )  # pyarrow aborts at nulls
        kind = pa.map_(found[0].type, found[1].type)
        entries = pa.Array.from_buffers(kind.field(0).type, count, [None], children=list(found))
        return pa.Array.from_buffers(kind, size, [_validity(size, rng), offsets], children=[entries])

    return make


def _union(rng: random.Random, depth: int) -> Make:
    inner, is_dense = [array(rng, depth) for _ in range(rng.choice((1, 2, 5)))], rng.random() < 0.5
    codes = sorted(rng.sample(range(128), len(inner)))

    def make(size: int) -> pa.Array:
        rows = [rng.randrange(len(inner)) for _ in range(size)]
        types = pa.array([codes[row] for row in rows], pa.int8())
        names = [str(code) for code in codes]
        if not is_dense:
            return pa.UnionArray.from_sparse(types, [part(size) for part in inner], names, codes)
        places = pa.array([rows[:i].count(row) for i, row in enumerate(rows)], pa.int32())
        parts = [part(rows.count(i)) for i, part in enumerate(inner)]
        return pa.UnionArray.from_dense(types, places, parts, names, codes)

    return make


def _dictionary(rng: random.Random, depth: int) -> Make:
    inner, index = array(rng, depth), rng.choice((pa.int8(), pa.uint16(), pa.int32(), pa.int64()))
    ordered = rng.random() < 0.2

    def make(size: int) -> pa.Array:
        values = inner(5)
        indices = pa.array([rng.choice((None, 0, 1, 4)) for _ in range(size)], index)
        return pa.DictionaryArray.from_arrays(indices, values, ordered=ordered)

    return make


def _runs(rng: random.Random, depth: int) -> Make:
    inner, kind = array(rng, depth), rng.choice((pa.int16(), pa.int32(), pa.int64()))

    def make(size: int) -> pa.Array:
        ends = sorted({*rng.sample(range(1, size + 1), min(3, size)), *([size] if size else [])})
        return pa.RunEndEncodedArray.from_arrays(pa.array(ends, kind), inner(len(ends)))

    return make


def _extension(rng: random.Random, depth: int) -> Make:
    choice = rng.randrange(5)
    inner = array(rng, depth)

    def make(size: int) -> pa.Array:
        kind, storage = (
            (pa.uuid(), pa.array([rng.randbytes(16) for _ in range(size)], pa.binary(16))),
            (pa.bool8(), pa.array([rng.randrange(-128, 128) for _ in range(size)], pa.int8())),
            (pa.json_(), pa.array([rng.choice(("{", "1", None, '{"a": [1]}')) for _ in range(size)], pa.string())),
            (pa.fixed_shape_tensor(pa.float32(), (2, 0)), pa.nulls(size, pa.list_(pa.float32(), 0))),
            (None, inner(size)),
        )[choice]
        return pa.ExtensionArray.from_storage(kind or pa.opaque(storage.type, "é", "\0"), storage)

    return make


def arrow(schema: pa.Schema, batches: list[pa.RecordBatch], rng: random.Random) -> bytes:
    """An Arrow stream or file, with random options."""
    version = rng.choice((pa.ipc.MetadataVersion.V5, pa.ipc.MetadataVersion.V5, pa.ipc.MetadataVersion.V4))
    options = pa.ipc.IpcWriteOptions(
        metadata_version=version,
        compression=rng.choice((None, "lz4", "zstd")) if version == pa.ipc.MetadataVersion.V5 else None,  # V4 has none
        use_legacy_format=rng.random() < 0.1,
        emit_dictionary_deltas=rng.random() < 0.3,
        unify_dictionaries=rng.random() < 0.3,
    )
    sink, make = io.BytesIO(), rng.choice((pa.ipc.new_stream, pa.ipc.new_stream, pa.ipc.new_file))
    with make(sink, schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def parquet(schema: pa.Schema, batches: list[pa.RecordBatch], rng: random.Random) -> bytes:
    """A Parquet file, with random options."""
    if any(mark in str(kind) for kind in schema.types for mark in ("[0]", ",0]")):
        raise ValueError("lists of no values abort pyarrow's writer")
    sink = io.BytesIO()
    fixed = [field.name for field in schema if field.type == pa.float64()]
    encoded = {name: rng.choice(ENCODINGS) for name in fixed if rng.random() < 0.3} if rng.random() < 0.2 else None
    writer = pq.ParquetWriter(
        sink,
        schema,
        version=rng.choice(("1.0", "2.4", "2.6")),
        use_dictionary=encoded is None and rng.random() < 0.6,
        column_encoding=encoded,
        compression=rng.choice(COMPRESSIONS),
        write_statistics=rng.random() < 0.5,
        data_page_version=rng.choice(("1.0", "2.0")),
        data_page_size=rng.choice((1, 100, None)),
        dictionary_pagesize_limit=rng.choice((None, 1, 50)),
        write_page_index=rng.random() < 0.2,
        write_page_checksum=rng.random() < 0.2,
        store_schema=rng.random() < 0.7,
        use_deprecated_int96_timestamps=rng.random() < 0.1,
        use_compliant_nested_type=rng.random() < 0.8,
        write_batch_size=rng.choice((1, 7, None)),
        store_decimal_as_integer=rng.random() < 0.3,
    )
    with writer:
        for batch in batches:
            writer.write_batch(batch, row_group_size=rng.choice((1, 50, 1000)))
    return sink.getvalue()


def written(format_: Callable[[pa.Schema, list[pa.RecordBatch], random.Random], bytes], rng: random.Random) -> bytes:
    """A table in a binary format; another one as long as its writer refuses what is random in it."""
    while True:
        try:
            return format_(*table(rng), rng)
        except (pa.ArrowException, OSError, ValueError, TypeError):
            continue
