"""NDJSON: one JSON object a line. A bad line harms no other, and a blank one is no row.

Kept columns hold each value as the JSON text it came as; `plain` makes text of it for other formats.
"""

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from patient.record import FIELDS
from service.records.decoding import ABSENT, UNREADABLE, Values, duplicate_keys, judge, numbers_type, parse
from service.records.errors import ColumnsError, FieldFault, MalformedJson, TooLarge, shown_name
from service.tables import columns, text
from service.tables.chunk import Chunk, Table, merged
from service.tables.source import PIECE, Limits, Source

LONGEST = 2**20  # bytes of a line
BLOCK = 2**20  # bytes that make a chunk; they are decoded in pieces, so that the interpreter is never held for long
JSON = {"json": "1"}  # metadata of a column that holds JSON text
UNKEPT = "A name with quotes, backslashes or control characters cannot be kept"
COLON = ord(":")
NOTHING: Values = (None,) * len(FIELDS)
UNSAFE_NAME = re.compile(r"[\x00-\x1f\\\"]")  # in a column's name msgspec refuses them


def read(source: Source, keep: columns.Keep, _limits: Limits) -> Table:
    """The table. What `*` keeps is decided by the first line. Raises TableError and ColumnsError."""
    blocks = _blocks(source)
    first = next(blocks, b"")
    reader = lines(keep, first.split(b"\n", 1)[0])
    return Table(reader.kept, (reader.block(block) for part in ([first], blocks) for block in part if block))


def lines(keep: columns.Keep, first: bytes) -> "Lines":
    """What reads records that are like the first, as JSON; see `read`."""
    names = _others(first) if columns.ALL in keep else list(keep)
    columns.kept([*FIELDS, *names], keep)
    if faults := [FieldFault(shown_name(name), UNKEPT) for name in names if UNSAFE_NAME.search(name)]:
        raise ColumnsError(faults)
    return Lines(names)


def _others(line: bytes) -> list[str]:
    try:
        return [name for name in msgspec.json.decode(line, type=dict[str, msgspec.Raw]) if name not in FIELDS]
    except UNREADABLE:
        return []  # it will be a bad row


def _blocks(source: Source) -> Iterator[bytes]:
    """The source, cut after whole lines, without carriage returns and empty lines around."""
    rest = b""
    while data := source.read(BLOCK):
        whole, end, data = data.rpartition(b"\n")
        if not end and len(rest) + len(data) > LONGEST:
            raise TooLarge(f"A line is longer than {LONGEST} bytes.")
        if end:
            if block := _tidy(rest + whole):
                yield block
            rest = b""
        rest += data
    if rest := _tidy(rest):
        yield rest


def _pieces(block: bytes) -> Iterator[bytes]:
    """A block, cut after whole lines of about PIECE bytes."""
    start = 0
    while len(block) - start > PIECE and (end := block.find(b"\n", start + PIECE)) >= 0:
        yield block[start:end]
        start = end + 1
    yield block[start:]


def _tidy(block: bytes) -> bytes:
    return (block.replace(b"\r\n", b"\n") if b"\r" in block else block).strip(b"\r\n")


class Lines:
    """Lines of JSON as chunks; the columns `names` pass through.

    A block is first read as a whole, which says no more than that all is well; what is not is found line by line.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.kept = pa.schema([pa.field(name, pa.string(), metadata=JSON) for name in names])
        self.spare = [f"kept_{i}" for i in range(len(names))]  # a column's name may be no name to Python
        self.decoder = msgspec.json.Decoder(numbers_type(tuple(names)))
        self.numbers = attrgetter(*FIELDS) if names else msgspec.structs.astuple  # the latter is faster

    def block(self, block: bytes) -> Chunk:
        """A chunk of all lines that are not blank."""
        return merged([self._piece(piece) for piece in _pieces(block)])

    def _piece(self, block: bytes) -> Chunk:
        try:
            records = self.decoder.decode_lines(block)
        except UNREADABLE:
            records = []
        # If there are as many breaks between objects as there are between lines, each line is one object.
        if records and block.count(b"}\n{") == len(records) - 1 and self._has_single_keys(records, block):
            with contextlib.suppress(UnicodeDecodeError):  # kept values were not looked at until here
                return self._chunk(records, {})
        return self.lines([line for line in block.split(b"\n") if line.strip()])

    def lines(self, lines: list[bytes]) -> Chunk:
        """A chunk of these, whatever they hold."""
        broken: dict[int, list[FieldFault]] = {}
        return self._chunk([self._record(line, row, broken) for row, line in enumerate(lines)], broken)

    def _chunk(self, records: list[Any], broken: dict[int, list[FieldFault]]) -> Chunk:
        # One flat list: as many tuples at once would set the garbage collector going.
        values = np.array([*chain.from_iterable(map(self.numbers, records))], np.float64)
        values = values.reshape(len(records), len(FIELDS))
        kept = [pa.array([_text(getattr(r, place)) for r in records], pa.string()) for place in self.spare]
        return Chunk([*np.ascontiguousarray(values.T)], pa.RecordBatch.from_arrays(kept, schema=self.kept), broken)

    def _has_single_keys(self, records: list[Any], lines: bytes) -> bool:
        """Whether no key stands twice: then every colon of the text ends a key or is in a kept value."""
        if any(":" in name for name in self.names):
            return False
        colons = len(records) * len(FIELDS)
        for place in self.spare:
            raws = [bytes(getattr(record, place)) for record in records]
            colons += sum(bool(raw) + raw.count(b":") for raw in raws)
        return colons == np.count_nonzero(np.frombuffer(lines, np.uint8) == COLON)  # faster than bytes.count

    def _record(self, line: bytes, row: int, broken: dict[int, list[FieldFault]]) -> Any:
        try:
            record = self.decoder.decode(line)
            if self._has_single_keys([record], line) and line.decode():
                return record
        except UNREADABLE:
            pass
        values, kept, faults = self._judge(line)
        if faults:
            broken[row] = faults
        return self.decoder.type(*values, *kept)

    def _judge(self, line: bytes) -> tuple[Values, list[msgspec.Raw], list[FieldFault]]:
        """What PatientRecord says of a line, and the values to keep, also of an invalid one."""
        kept = [ABSENT] * len(self.names)
        try:
            parsed = parse(line)
        except MalformedJson:
            return NOTHING, kept, [FieldFault("", "Not JSON")]
        if isinstance(parsed, dict):
            kept = [_raw(parsed.pop(name)) if name in parsed else ABSENT for name in self.names]
        values, faults = judge(parsed)
        if values is None:
            return NOTHING, kept, faults
        return values, kept, duplicate_keys(line)


def _raw(value: Any) -> msgspec.Raw:
    try:
        return msgspec.Raw(json.dumps(value, allow_nan=False).encode())
    except ValueError:
        return ABSENT


def _text(raw: msgspec.Raw) -> str | None:
    return str(raw, "utf-8") if raw else None


def write(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Buffer]:
    """One object a line."""
    for batch in batches:
        if len(batch):
            yield objects(batch, schema, after="\n")


def objects(batch: pa.RecordBatch, schema: pa.Schema, before: str = "", after: str = "") -> pa.Buffer:
    """The rows as JSON objects in UTF-8, each between `before` and `after`."""
    parts: list[Any] = []
    for field, column in zip(schema, batch.columns, strict=True):
        opening = "," if parts else before + "{"
        key = f"{opening}{json.dumps(field.name, ensure_ascii=False)}:"
        if field.name == "probability":
            parts.append(text.probabilities(column, before=key, null="null"))
        elif field.name == "heart_disease":
            parts.append(text.booleans(column, before=key, null="null"))
        else:
            parts += [key, "null" if column.null_count == len(column) else _json(column, field)]
    return text.joined(*parts, "}" + after)


def _json(column: pa.Array, field: pa.Field) -> pa.Array:
    """Each value as JSON text."""
    kind = field.type
    if field.metadata and b"json" in field.metadata:
        values = column
    elif pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        values = column.cast(pa.string())
    elif field.name == "missing":
        names = pc.binary_join(column, '","').dictionary_encode()  # of fields, which need no escapes
        lists = [f'["{some}"]' if some else "[]" for some in names.dictionary.to_pylist()]
        values = pa.array(lists, pa.string()).take(names.indices)
    else:
        values = pa.array([text.as_json(value) for value in column.to_pylist()], pa.string())
    return pc.fill_null(values, "null") if values.null_count else values


def plain(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """For formats other than JSON: strings as they are instead of in JSON, everything else as its JSON text."""
    encoded = [i for i, field in enumerate(schema) if field.metadata and b"json" in field.metadata]
    if not encoded:
        return schema, iter(batches)
    for i in encoded:
        schema = schema.set(i, schema.field(i).remove_metadata())

    def decoded() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            arrays = batch.columns
            for i in encoded:
                arrays[i] = pa.array([_decoded(value) for value in arrays[i].to_pylist()], pa.string())
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return schema, decoded()


def _decoded(value: str | None) -> str | None:
    if value is None or value == "null":
        return None
    return msgspec.json.decode(value, type=str) if value.startswith('"') else value
