"""Read and write JSON: NDJSON, one object per line, and arrays of objects, small tables held in memory as a whole.

An invalid record does not affect others; blank lines are skipped. Kept columns hold each value's JSON text;
`json_to_text` converts them for other formats.
"""

import codecs
import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from patient.record import FIELDS
from service.records.decoding import (
    JSON_ERRORS,
    MAX_RECORD_VALUES,
    NO_VALUES,
    PART_ROWS,
    count_values,
    duplicate_keys,
    finish,
    numbers_of,
    numbers_type,
    parse,
    split_array,
    to_utf8,
    validate,
)
from service.records.errors import (
    ColumnsError,
    FieldFault,
    InvalidRecord,
    MalformedJson,
    TableError,
    TooLarge,
    shown_name,
)
from service.records.results import BATCH_END, batch_start
from service.tables import columns, kept, text
from service.tables.chunk import Chunk, RowFaults, Table, concat_chunks
from service.tables.source import READ_BYTES, LimitedSource, Limits, Source, iter_pieces

MAX_LINE_BYTES = 2**20  # also of a record in an array
MAX_KEPT = 1000  # columns: a decoder for more is slow to build
BLOCK_BYTES = 2**20  # that make a chunk; they are decoded in smaller pieces, which never hold the GIL for long
IS_JSON = {"json": "1"}  # metadata of a column that holds JSON text
UNKEPT = "A name with quotes, backslashes or control characters cannot be kept"
UNSAFE_NAME = re.compile(r"[\x00-\x1f\\\"]")  # msgspec refuses these characters in a field's name


def read_lines(source: Source, keep: columns.Keep, limits: Limits) -> Table:
    """Return the table. The first line decides what `*` keeps. Raises TableError and ColumnsError."""
    blocks = _blocks(_read_utf8(source))
    first = next(blocks, b"")
    decoder = _decoder_like(first.split(b"\n", 1)[0], keep, limits.columns)
    return Table(decoder.kept, (decoder.decode_block(block) for part in ([first], blocks) for block in part if block))


def read_array(source: Source, keep: columns.Keep, limits: Limits) -> Table:
    """Read the array and return the table. The first record decides what `*` keeps. Raises RecordError."""
    limited = LimitedSource(source, limits.part, "The array is larger than {} bytes.")
    records = finish(split_array(to_utf8(b"".join(iter_pieces(limited))), limits.rows))
    if any(len(record) > MAX_LINE_BYTES for record in records):
        raise TooLarge(f"A record is larger than {MAX_LINE_BYTES} bytes.")
    decoder = _decoder_like(records[0] if records else b"", keep, limits.columns)
    starts = range(0, len(records), PART_ROWS)
    return Table(decoder.kept, (decoder.decode_records(records[start : start + PART_ROWS]) for start in starts))


def _decoder_like(first: bytes, keep: columns.Keep, max_columns: int) -> "RecordDecoder":
    """Return the decoder for records that have the keys of the first. Raises ColumnsError."""
    names = list(keep)
    if columns.ALL in keep:
        try:
            names = [name for name in msgspec.json.decode(first, type=dict[str, msgspec.Raw]) if name not in FIELDS]
        except JSON_ERRORS:  # the record will be an invalid row
            names = []
        if len(names) > MAX_KEPT:
            raise ColumnsError([FieldFault("", f"The first record has more than {MAX_KEPT} other fields to keep")])
    columns.check_header([*FIELDS, *names], keep, max_columns)
    if faults := [FieldFault(shown_name(name), UNKEPT) for name in names if UNSAFE_NAME.search(name)]:
        raise ColumnsError(faults)
    return RecordDecoder(names)


def _read_utf8(source: Source) -> Iterator[bytes]:
    """Yield lines of JSON as UTF-8 without a byte order mark, from UTF-8, UTF-16 or UTF-32. Raises TableError."""
    head = b""
    while len(head) < len(codecs.BOM_UTF32) and (data := source.read(BLOCK_BYTES)):
        head += data
    pieces = chain([head], iter(lambda: source.read(BLOCK_BYTES), b""))
    encoding = json.detect_encoding(head)
    if encoding.startswith("utf-8"):  # a line that is not UTF-8 will be an invalid row
        yield next(pieces).removeprefix(codecs.BOM_UTF8)
        yield from pieces
        return
    try:
        yield from codecs.iterencode(codecs.iterdecode(pieces, encoding), "utf-8")
    except UnicodeError:
        raise TableError(f"The text is not {encoding.upper()}, though it begins as {encoding.upper()} does.") from None


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield text in blocks of whole lines, without carriage returns and surrounding empty lines."""
    rest = b""
    for data in pieces:
        whole, end, data = data.rpartition(b"\n")
        if not end and len(rest) + len(data) > MAX_LINE_BYTES:
            raise TooLarge(f"A line is longer than {MAX_LINE_BYTES} bytes.")
        if end:
            if block := _strip_line_ends(rest + whole):
                yield block
            rest = b""
        rest += data
    if rest := _strip_line_ends(rest):
        yield rest


def _strip_line_ends(block: bytes) -> bytes:
    return (block.replace(b"\r\n", b"\n") if b"\r" in block else block).strip(b"\r\n")


class RecordDecoder:
    """Decode JSON records into chunks; the columns `names` pass through.

    A block of lines is decoded as a whole; if any line is invalid, the block is decoded again line by line.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.kept = pa.schema([pa.field(name, pa.string(), metadata=IS_JSON) for name in names])
        self.attributes = [f"kept_{i}" for i in range(len(names))]  # a column's name may not be a Python identifier
        self.decoder = msgspec.json.Decoder(numbers_type(tuple(names)))
        self.numbers = attrgetter(*FIELDS) if names else msgspec.structs.astuple  # the latter is faster

    def decode_block(self, block: bytes) -> Chunk:
        """Decode all lines that are not blank, in pieces of about READ_BYTES."""
        parts, start = [], 0
        while len(block) - start > READ_BYTES and (end := block.find(b"\n", start + READ_BYTES)) >= 0:
            parts.append(self._decode_lines(block[start:end]))
            start = end + 1
        return concat_chunks([*parts, self._decode_lines(block[start:])])

    def decode_records(self, records: list[bytes]) -> Chunk:
        """Decode records one by one, valid or not."""
        unreadable: RowFaults = {}
        return self._chunk([self._decode(record, row, unreadable) for row, record in enumerate(records)], unreadable)

    def _decode_lines(self, lines: bytes) -> Chunk:
        try:
            records = self.decoder.decode_lines(lines)
        except JSON_ERRORS:
            records = []
        # If there are as many breaks between objects as there are between lines, each line is one object.
        if records and lines.count(b"}\n{") == len(records) - 1 and self._has_unique_keys(records, lines):
            with contextlib.suppress(UnicodeDecodeError):  # kept values are decoded here for the first time
                return self._chunk(records, {})
        return self.decode_records([line for line in lines.split(b"\n") if line.strip()])

    def _chunk(self, records: list[Any], unreadable: RowFaults) -> Chunk:
        # One flat list: a tuple for each record, all alive at once, would trigger garbage collections.
        values = np.array([*chain.from_iterable(map(self.numbers, records))], np.float64)
        values = values.reshape(len(records), len(FIELDS))
        raws = ([getattr(record, name) for record in records] for name in self.attributes)
        texts = [pa.array([str(raw, "utf-8") if raw else None for raw in column], pa.string()) for column in raws]
        return Chunk([*np.ascontiguousarray(values.T)], pa.RecordBatch.from_arrays(texts, schema=self.kept), unreadable)

    def _has_unique_keys(self, records: list[Any], content: bytes) -> bool:
        """Whether no key occurs twice: then every colon of the text ends a key or is in a kept value."""
        if any(":" in name for name in self.names):
            return False
        colons = len(records) * len(FIELDS)
        for name in self.attributes:
            raws = [bytes(getattr(record, name)) for record in records]
            colons += sum(bool(raw) + raw.count(b":") for raw in raws)
        return colons == np.count_nonzero(np.frombuffer(content, np.uint8) == ord(":"))  # faster than bytes.count

    def _decode(self, content: bytes, row: int, unreadable: RowFaults) -> Any:
        """Decode one record; PatientRecord validates what msgspec refuses.

        Kept values survive in an invalid record of up to MAX_RECORD_VALUES.
        """
        with contextlib.suppress(*JSON_ERRORS):
            record = self.decoder.decode(content)
            if self._has_unique_keys([record], content) and content.decode():
                return record
        raws = [msgspec.Raw()] * len(self.names)
        if count_values(content) > MAX_RECORD_VALUES:
            unreadable[row] = [FieldFault("", f"The record has more than {MAX_RECORD_VALUES} values")]
            return self.decoder.type(*NO_VALUES, *raws)
        try:
            parsed = parse(content)
            if isinstance(parsed, dict):
                raws = [_raw(parsed.pop(name)) if name in parsed else msgspec.Raw() for name in self.names]
            values, faults = validate(parsed), duplicate_keys(content)
        except MalformedJson:
            values, faults = NO_VALUES, [FieldFault("", "Not JSON")]
        except InvalidRecord as error:
            values, faults = numbers_of(parsed), error.faults
        if faults:
            unreadable[row] = faults
        return self.decoder.type(*values, *raws)


def _raw(value: Any) -> msgspec.Raw:
    try:
        return msgspec.Raw(json.dumps(value, allow_nan=False).encode())
    except ValueError:
        return msgspec.Raw()


def write_lines(schema: pa.Schema, batches: Iterable[pa.RecordBatch], named: Sequence[str] = ()) -> Iterator[pa.Buffer]:
    """Encode one object per row and line. Raises ColumnsError; see Format.write."""
    kept.check(schema, kept.has_text, "JSON", named)
    for batch in batches:
        if len(batch):
            yield _encode_objects(batch, schema, after="\n")


def write_array(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], named: Sequence[str] = ()
) -> Iterator[bytes | pa.Buffer]:
    """Encode the model's version and threshold from the schema's metadata, then `predictions`, one object per row.

    Raises ColumnsError; see Format.write.
    """
    kept.check(schema, kept.has_text, "JSON", named)
    yield batch_start(schema.metadata[b"model_version"].decode(), float(schema.metadata[b"threshold"]))
    start = 1  # the first object has no comma before it
    for batch in batches:
        if len(batch):
            yield _encode_objects(batch, schema, before=",").slice(start)
            start = 0
    yield BATCH_END


def _encode_objects(batch: pa.RecordBatch, schema: pa.Schema, before: str = "", after: str = "") -> pa.Buffer:
    """Encode rows as JSON objects, each between `before` and `after`."""
    parts: list[Any] = []
    for field, column in zip(schema, batch.columns, strict=True):
        opening = "," if parts else before + "{"
        key = f"{opening}{json.dumps(field.name, ensure_ascii=False)}:"
        if field.name == "probability":
            parts.append(text.format_probabilities(column, before=key, null="null"))
        elif field.name == "heart_disease":
            parts.append(text.format_booleans(column, before=key, null="null"))
        else:
            parts += [key, "null" if column.null_count == len(column) else _encode_values(column, field)]
    return text.join_rows(*parts, "}" + after)


def _encode_values(column: pa.Array, field: pa.Field) -> pa.Array:
    kind = field.type
    if field.metadata and b"json" in field.metadata:
        values = column
    elif pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        values = column.cast(pa.string())
    elif field.name == "missing":
        names = pc.binary_join(column, '","').dictionary_encode()  # field names need no escapes
        lists = [f'["{joined}"]' if joined else "[]" for joined in names.dictionary.to_pylist()]
        values = pa.array(lists, pa.string()).take(names.indices)
    else:
        values = pa.array([text.to_json(value) for value in kept.values(column)], pa.string())
    return pc.fill_null(values, "null") if values.null_count else values


def json_to_text(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Convert columns of JSON text for other formats: decode strings, and leave everything else as JSON text."""
    encoded = [i for i, field in enumerate(schema) if field.metadata and b"json" in field.metadata]
    if not encoded:
        return schema, iter(batches)
    for i in encoded:
        schema = schema.set(i, schema.field(i).remove_metadata())

    def convert() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            arrays = batch.columns
            for i in encoded:
                arrays[i] = pa.array([_decode_string(value) for value in arrays[i].to_pylist()], pa.string())
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return schema, convert()


def _decode_string(value: str | None) -> str | None:
    if value is None or value == "null":
        return None
    return msgspec.json.decode(value, type=str) if value.startswith('"') else value
