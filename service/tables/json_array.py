"""A JSON array of records, and the answer of the same kind: small tables, held as a whole."""

from collections.abc import Iterable, Iterator

import msgspec
import pyarrow as pa

from service.records.decoding import UNREADABLE
from service.records.errors import ColumnsError, FieldFault, MalformedJson, TooLarge
from service.records.results import BATCH_END, batch_start
from service.tables import columns, ndjson
from service.tables.chunk import Chunk, Table
from service.tables.source import PIECE, Limits, Source

ROWS = 1000  # in a chunk


def read(source: Source, keep: columns.Keep, limits: Limits) -> Table:
    """The table. What `*` keeps is decided by the first record. Raises TableError."""
    parts: list[bytes] = []
    size = 0
    while data := source.read(PIECE):
        parts.append(data)
        size += len(data)
        if size > limits.part:
            raise TooLarge(f"The array is larger than {limits.part} bytes.")
    try:
        records = [bytes(raw) for raw in msgspec.json.decode(b"".join(parts), type=list[msgspec.Raw])]
    except msgspec.ValidationError:
        raise ColumnsError([FieldFault("", "The body must be an array of patient records")]) from None
    except UNREADABLE:
        raise MalformedJson("The body is not JSON.") from None
    lines = ndjson.lines(keep, records[0] if records else b"")

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(records), ROWS):
            yield lines.lines(records[start : start + ROWS])

    return Table(lines.kept, chunks())


def write(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes | pa.Buffer]:
    """The model that answered and its threshold, then `predictions`, one object a row."""
    said = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    yield batch_start(said["model_version"], float(said["threshold"]))
    first = True
    for batch in batches:
        if len(batch):
            yield ndjson.objects(batch, schema, before=",").slice(first)
            first = False
    yield BATCH_END
