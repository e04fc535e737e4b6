"""The table formats: their media types, file name suffixes, readers and writers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import pyarrow as pa

from service.tables import arrow, csv, json, parquet
from service.tables.chunk import Table
from service.tables.columns import Keep
from service.tables.source import Limits, Source

Reader = Callable[[Source, Keep, Limits], Table]
Writer = Callable[[pa.Schema, Iterable[pa.RecordBatch], Sequence[str]], Iterator[bytes | pa.Buffer]]


@dataclass(frozen=True, slots=True)
class Format:
    """A table format. Its reader checks the columns before the first chunk; reader and writer use bounded memory.

    aliases: other media types by which it is sent and accepted; responses have `media_type`
    """

    media_type: str
    suffixes: tuple[str, ...]
    read: Reader
    writer: Writer
    is_json: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def media_types(self) -> tuple[str, ...]:
        return self.media_type, *self.aliases

    def write(
        self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], named: Sequence[str] = ()
    ) -> Iterator[bytes | pa.Buffer]:
        """Encode batches of this schema, piece by piece.

        The first piece raises ColumnsError for types of kept columns that the format cannot hold; it names those of
        `named`, which the client has named itself, and the others by their places.
        """
        if not self.is_json:
            schema, batches = json.json_to_text(schema, batches)
        return self.writer(schema, batches, named)


NDJSON = Format(
    "application/x-ndjson",
    (".ndjson", ".jsonl"),
    json.read_lines,
    json.write_lines,
    is_json=True,
    aliases=("application/ndjson", "application/jsonl", "application/jsonlines", "application/x-jsonlines"),
)
CSV = Format("text/csv", (".csv",), csv.read, csv.write, aliases=("application/csv",))
ARROW = Format(
    "application/vnd.apache.arrow.stream",
    (".arrows", ".arrow", ".feather"),
    arrow.read,
    arrow.write,
    aliases=("application/vnd.apache.arrow.file",),
)
PARQUET = Format("application/vnd.apache.parquet", (".parquet",), parquet.read, parquet.write)
JSON = Format("application/json", (".json",), json.read_array, json.write_array, is_json=True)
FORMATS = (JSON, NDJSON, CSV, ARROW, PARQUET)

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}  # by file name suffix


def format_of_file(name: str) -> tuple[Format, str | None] | None:
    """Return the format and compression that a file's name means: `in.csv.gz` is CSV, gzip. None if unknown."""
    path = PurePath(name.lower())
    compression = COMPRESSIONS.get(path.suffix)
    suffix = path.with_suffix("").suffix if compression else path.suffix
    return next(((format_, compression) for format_ in FORMATS if suffix in format_.suffixes), None)
