"""Read and write JSON arrays of records: small tables, held in memory as a whole."""

import json
from collections.abc import Iterable, Iterator

import msgspec
import pyarrow as pa

from service.records.decoding import UNREADABLE, parse
from service.records.errors import NOT_AN_ARRAY, ColumnsError, TooLarge
from service.records.results import BATCH_END, batch_start
from service.tables import columns, ndjson
from service.tables.chunk import Chunk, Table
from service.tables.source import READ_BYTES, Limits, Source

CHUNK_ROWS = 1000


def read(source: Source, keep: columns.Keep, limits: Limits) -> Table:
    """Read the array and return the table. The first record decides what `*` keeps. Raises RecordError."""
    parts: list[bytes] = []
    size = 0
    while data := source.read(READ_BYTES):
        parts.append(data)
        size += len(data)
        if size > limits.part:
            raise TooLarge(f"The array is larger than {limits.part} bytes.")
    records = _split(b"".join(parts))
    decoder = ndjson.decoder_like(records[0] if records else b"", keep)

    def decode_chunks() -> Iterator[Chunk]:
        for start in range(0, len(records), CHUNK_ROWS):
            yield decoder.decode_lines(records[start : start + CHUNK_ROWS])

    return Table(decoder.kept, decode_chunks())


def _split(content: bytes) -> list[bytes]:
    """Split an array into its records, each as JSON. Raises MalformedJson and ColumnsError."""
    try:
        return [bytes(raw) for raw in msgspec.json.decode(content, type=list[msgspec.Raw])]
    except UNREADABLE:
        records = parse(content)
    if not isinstance(records, list):
        raise ColumnsError([NOT_AN_ARRAY])
    return [json.dumps(record).encode() for record in records]  # NaN or infinity: the decoder names the field


def write(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes | pa.Buffer]:
    """Encode the model's version and threshold from the schema's metadata, then `predictions`, one object per row."""
    metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    yield batch_start(metadata["model_version"], float(metadata["threshold"]))
    is_first = True
    for batch in batches:
        if len(batch):
            yield ndjson.encode_objects(batch, schema, before=",").slice(
                1 if is_first else 0
            )  # the first object has no comma before it
            is_first = False
    yield BATCH_END
