"""NDJSON: one JSON object a line. A bad line harms no other, and a blank one is no row.

Kept columns hold each value as the JSON text it came as; `plain` makes text of it for other formats.
"""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from patient.record import FIELDS, PatientRecord, measurements
from service.http.body import words
from service.tables import columns, text
from service.tables.chunk import Chunk, Table, merged
from service.tables.errors import ColumnsError, TooLarge
from service.tables.source import PIECE, Limits, Source

LONGEST = 2**20  # bytes of a line
BLOCK = 2**20  # bytes that make a chunk; they are decoded in pieces, so that the interpreter is never held for long
JSON = {"json": "1"}  # metadata of a column that holds JSON text
UNKEPT = "A name with quotes, backslashes or control characters cannot be kept"
COLON = ord(":")
ABSENT = msgspec.Raw(b"")
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what msgspec raises
ODD = re.compile(r"[\x00-\x1f\\\"]")  # in a column's name msgspec refuses them

Reasons = list[tuple[str, str]]


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
    if odd := [(columns.shown(name), UNKEPT) for name in names if ODD.search(name)]:
        raise ColumnsError(odd)
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


@lru_cache(maxsize=64)  # a type made anew for each table stays until the garbage is collected, which is seldom
def _decoder(names: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    """Of a record with these columns kept, under the names of `Lines.spare`."""
    fields: list[Any] = [(name, float | None) for name in FIELDS]
    fields += [(f"kept_{i}", msgspec.Raw, ABSENT) for i in range(len(names))]
    renamed = {f"kept_{i}": name for i, name in enumerate(names)}
    return msgspec.json.Decoder(
        msgspec.defstruct("Record", fields, forbid_unknown_fields=True, rename=renamed, gc=False)
    )


class Lines:
    """Lines of JSON as chunks; the columns `names` pass through.

    A block is first read as a whole, which says no more than that all is well; what is not is found line by line.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.kept = pa.schema([pa.field(name, pa.string(), metadata=JSON) for name in names])
        self.spare = [f"kept_{i}" for i in range(len(names))]  # a column's name may be no name to Python
        self.decoder = _decoder(tuple(names))
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
        if records and block.count(b"}\n{") == len(records) - 1 and self._single(records, block):
            with contextlib.suppress(UnicodeDecodeError):  # kept values were not looked at until here
                return self._chunk(records, {})
        return self.lines([line for line in block.split(b"\n") if line.strip()])

    def lines(self, lines: list[bytes]) -> Chunk:
        """A chunk of these, whatever they hold."""
        broken: dict[int, Reasons] = {}
        return self._chunk([self._record(line, row, broken) for row, line in enumerate(lines)], broken)

    def _chunk(self, records: list[Any], broken: dict[int, Reasons]) -> Chunk:
        # One flat list: as many tuples at once would set the garbage collector going.
        values = np.array([*chain.from_iterable(map(self.numbers, records))], np.float64)
        values = values.reshape(len(records), len(FIELDS))
        kept = [pa.array([_text(getattr(r, place)) for r in records], pa.string()) for place in self.spare]
        return Chunk([*np.ascontiguousarray(values.T)], pa.RecordBatch.from_arrays(kept, schema=self.kept), broken)

    def _single(self, records: list[Any], lines: bytes) -> bool:
        """Whether no key stands twice: then every colon of the text ends a key or is in a kept value."""
        if any(":" in name for name in self.names):
            return False
        colons = len(records) * len(FIELDS)
        for place in self.spare:
            raws = [bytes(getattr(record, place)) for record in records]
            colons += sum(bool(raw) + raw.count(b":") for raw in raws)
        return colons == np.count_nonzero(np.frombuffer(lines, np.uint8) == COLON)  # faster than bytes.count

    def _record(self, line: bytes, row: int, broken: dict[int, Reasons]) -> Any:
        try:
            record = self.decoder.decode(line)
            if self._single([record], line) and line.decode():
                return record
        except UNREADABLE:
            pass
        values, kept, reasons = self._by_hand(line)
        if reasons:
            broken[row] = reasons
        return self.decoder.type(*values, *kept)

    def _by_hand(self, line: bytes) -> tuple[list[float | None], list[msgspec.Raw], Reasons]:
        """PatientRecord's own verdict on a line, and what can be passed through of it all the same."""
        nothing: list[float | None] = [None] * len(FIELDS)
        try:
            pairs = json.loads(line, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError):
            return nothing, [ABSENT] * len(self.names), [("", "Not JSON")]
        if not isinstance(pairs, _Pairs):
            return nothing, [ABSENT] * len(self.names), [("", words("model_type", ()))]
        last = dict(pairs)
        kept = [_raw(last.pop(name)) if name in last else ABSENT for name in self.names]
        try:
            record = PatientRecord.model_validate_json(json.dumps(last))
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            return nothing, kept, [_reason(fault["type"], fault["loc"]) for fault in faults]
        counts = Counter(name for name, _ in pairs)
        doubled = [(columns.shown(name), _twice(name)) for name, count in counts.items() if count > 1]
        return [getattr(record, name) for name in FIELDS], kept, doubled


class _Pairs(list[tuple[str, Any]]):
    """An object's keys and values, those that stand twice too."""


def _reason(kind: str, location: tuple[int | str, ...]) -> tuple[str, str]:
    if kind == "json_invalid":
        return "", "Not JSON"
    return (columns.shown(str(location[0])) if location else ""), words(kind, location)


def _twice(name: str) -> str:
    title = next((field.title for field in measurements() if field.name == name), "The column")
    return f"{title} is given twice"


def _raw(value: Any) -> msgspec.Raw:
    try:
        return msgspec.Raw(json.dumps(_plain(value), allow_nan=False).encode())
    except ValueError:
        return ABSENT


def _plain(value: Any) -> Any:
    """What `_Pairs` has made of objects, undone."""
    if isinstance(value, _Pairs):
        return {name: _plain(inner) for name, inner in value}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


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
