"""Jobs, parts and outcomes of a run of `score`. Plain data: they are sent to other machines."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import click
import pyarrow as pa

from service.cli.score.storage import PIPE
from service.records.errors import RowFault, Tally
from service.tables import kept
from service.tables.chunk import Table
from service.tables.columns import Keep
from service.tables.formats import COMPRESSIONS, FORMATS, PARQUET, Format, format_of_file
from service.tables.json import json_to_text
from service.tables.source import Limits, OutputBuffer, Source, open_source

# Users need no protection from the size of their own files; only what must be in memory as a whole has a limit.
LIMITS = Limits(sys.maxsize, sys.maxsize, sys.maxsize, part=2**31, spool=sys.maxsize, ratio=2**40, window=2**27)

KINDS = [suffix[1:] for format_ in FORMATS for suffix in format_.suffixes]

Buffer = Any  # bytes or pyarrow's Buffer, which has no type to check
Tick = Callable[[int, int], None]  # called with the bytes read and the rows scored so far


@dataclass(frozen=True, slots=True)
class Kind:
    """A format and compression by file suffix, such as `csv` or `ndjson.gz`. compression: gzip, zstd or None."""

    name: str
    format: Format
    compression: str | None

    @classmethod
    def of(cls, file: str) -> "Kind | None":
        """Return the kind of a file name, or None."""
        found = format_of_file(file)
        if not found:
            return None
        words = file.lower().rsplit(".", 2)
        return cls(".".join(words[-2:] if found[1] else words[-1:]), *found)

    @classmethod
    def named(cls, option: str, name: str) -> "Kind":
        """Return the kind that an option names. Raises click.UsageError."""
        found = cls.of(f"x.{name.removeprefix('.')}")
        if not found or found.name != name.lower().removeprefix("."):
            kinds, compressions = ", ".join(KINDS), " or ".join(COMPRESSIONS)
            raise click.UsageError(f"{option} must be one of {kinds}, also with {compressions}")
        return found

    @property
    def is_read_in_place(self) -> bool:
        """Whether the reader seeks in the file."""
        return self.format is PARQUET and not self.compression


@dataclass(frozen=True, slots=True)
class Part:
    """One table and where its output goes, both as paths on their storage, or PIPE.

    name: of the part within a folder of parts, and in messages
    size, changed: of the input, in bytes and ns; None and 0 if it is not a file
    """

    name: str
    path: str
    size: int | None
    changed: int
    source_kind: Kind
    target: str
    target_kind: Kind

    def read(self, source: Source, keep: Keep) -> Table:
        """Read the table from its bytes. Raises RecordError."""
        kind = self.source_kind
        source = source if kind.is_read_in_place else open_source(source, kind.compression, LIMITS)
        return kind.format.read(source, keep, LIMITS)

    def encode(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], named: Keep) -> Iterator[Buffer]:
        """Encode the output, uncompressed; see Format.write. To a pipe, Arrow is written as a stream."""
        if self.target_kind.name.split(".")[0] in ("arrow", "feather") and self.target != PIPE:
            return _arrow_file(*json_to_text(schema, batches), named)
        return self.target_kind.format.write(schema, batches, named)


def _arrow_file(schema: pa.Schema, batches: Iterable[pa.RecordBatch], named: Keep) -> Iterator[bytes]:
    """Encode batches as an Arrow file. Dictionaries are decoded: a file has one of them for all batches."""
    kept.check(schema, kept.has_no_dictionary_within, "An Arrow file", named)
    schema, batches = kept.convert(schema, batches, kept.decode_dictionary, "An Arrow file", named)
    sink = OutputBuffer()
    with pa.ipc.new_file(pa.PythonFile(sink, "w"), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield sink.take()
    yield sink.take()


@dataclass(frozen=True, slots=True)
class Job:
    """Options of all tables: columns to pass through, and whether invalid rows are reported or refuse a table."""

    keep: Keep
    report: bool


@dataclass(slots=True)
class Outcome:
    """The result of a part. total: faults; failure: why it has no output; hidden: the file that holds its output."""

    name: str
    rows: int = 0
    bad: int = 0
    total: int = 0
    faults: list[RowFault] = field(default_factory=list)
    failure: str | None = None
    hidden: str | None = None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Outcome":
        """Return the outcome whose fields `values` are, from JSON."""
        return cls(**{**values, "faults": [RowFault(*fault) for fault in values["faults"]]})


class Engine(Protocol):
    """Scores tables, one at a time. identity: of the model; a part that another model scored is scored again."""

    identity: str
    job: Job

    def score(self, source: Source, part: Part, tally: Tally) -> Iterator[Buffer]:
        """Yield the output of a table, and count its rows in `tally`. Raises RecordError."""
