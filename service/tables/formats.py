"""The formats of a table: what they are called, how they are read and written."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

import pyarrow as pa

from service.tables import arrow, csv, ndjson, parquet
from service.tables import json_array as array
from service.tables.chunk import Table
from service.tables.columns import Keep
from service.tables.source import Limits, Source

Reader = Callable[[Source, Keep, Limits], Table]
Writer = Callable[[pa.Schema, Iterable[pa.RecordBatch]], Iterator[bytes | pa.Buffer]]


@dataclass(frozen=True, slots=True)
class Format:
    """One of them. A reader checks the columns before it hands out the first chunk; what either holds is bounded."""

    media_type: str
    suffixes: tuple[str, ...]
    read: Reader
    writer: Writer
    json: bool = False

    def write(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes | pa.Buffer]:
        """Batches of this schema as bytes, as soon as there are any."""
        return self.writer(schema, batches) if self.json else self.writer(*ndjson.plain(schema, batches))


NDJSON = Format("application/x-ndjson", (".ndjson", ".jsonl"), ndjson.read, ndjson.write, json=True)
CSV = Format("text/csv", (".csv",), csv.read, csv.write)
ARROW = Format("application/vnd.apache.arrow.stream", (".arrows", ".arrow", ".feather"), arrow.read, arrow.write)
PARQUET = Format("application/vnd.apache.parquet", (".parquet",), parquet.read, parquet.write)
JSON = Format("application/json", (".json",), array.read, array.write, json=True)
FORMATS = (JSON, NDJSON, CSV, ARROW, PARQUET)

PACKED = {".gz": "gzip", ".zst": "zstd"}


def of_name(name: str) -> tuple[Format, str | None] | None:
    """The format of a file by its name, and how it is packed: `in.csv.gz` is CSV, gzip. None for another kind."""
    suffix = PurePath(name.lower()).suffix
    packing = PACKED.get(suffix)
    if packing:
        suffix = PurePath(name.lower()).with_suffix("").suffix
    return next(((format_, packing) for format_ in FORMATS if suffix in format_.suffixes), None)
