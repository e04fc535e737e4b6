"""Jobs, parts and outcomes of a run of `score`. Plain data: they are sent to other machines."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from service.records.errors import RowFault, Tally
from service.tables.columns import Keep
from service.tables.formats import COMPRESSIONS, FORMATS, Format, format_of_file
from service.tables.json import json_to_text
from service.tables.source import Limits, OutputBuffer, Source

# Users need no protection from the size of their own files; only what must be in memory as a whole has a limit.
LIMITS = Limits(sys.maxsize, sys.maxsize, sys.maxsize, part=2**31, spool=sys.maxsize, ratio=2**40)

KINDS = [suffix[1:] for format_ in FORMATS for suffix in format_.suffixes]
ARROW_FILES = ("arrow", "feather")  # Arrow's file format; `arrows` is the stream

Buffer = Any  # bytes or pyarrow's Buffer, which has no type to check
Tick = Callable[[int, int], None]  # called with the bytes read and the rows scored so far


class Usage(Exception):
    """The command line is wrong. The message is one line."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A format and compression by file suffix, such as `csv` or `ndjson.gz`."""

    name: str

    @classmethod
    def of(cls, file: str) -> "Kind | None":
        """Return the kind of a file name, or None."""
        found = format_of_file(file)
        if not found:
            return None
        words = file.lower().rsplit(".", 2)
        return cls(".".join(words[-2:] if found[1] else words[-1:]))

    @classmethod
    def named(cls, option: str, name: str) -> "Kind":
        """Return the kind that an option names. Raises Usage."""
        found = cls.of(f"x.{name.removeprefix('.')}")
        if not found or found.name != name.lower().removeprefix("."):
            raise Usage(f"{option} must be one of {', '.join(KINDS)}, also with {' or '.join(COMPRESSIONS)}")
        return found

    @property
    def format(self) -> Format:
        return self._found[0]

    @property
    def packing(self) -> str | None:
        """The compression: gzip, zstd or None."""
        return self._found[1]

    @property
    def _found(self) -> tuple[Format, str | None]:
        found = format_of_file(f"x.{self.name}")
        assert found
        return found

    def write(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], pipe: bool = False) -> Iterator[Buffer]:
        """Encode batches, uncompressed. To a pipe, Arrow is written as a stream."""
        if self.name.split(".")[0] in ARROW_FILES and not pipe:
            return _arrow_file(*json_to_text(schema, batches))
        return self.format.write(schema, batches)


def _arrow_file(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    sink = OutputBuffer()
    with pa.ipc.new_file(pa.PythonFile(sink, "w"), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield sink.take()
    yield sink.take()


@dataclass(frozen=True, slots=True)
class Part:
    """One table and where its output goes, both as paths on their file systems; `-` is stdin or stdout.

    name: of the part within a folder of parts, and in messages
    size, changed: of the input, in bytes and ns; None and 0 if it is not a file
    source_kind, target_kind: formats by suffix, such as csv.gz
    """

    name: str
    path: str
    size: int | None
    changed: int
    source_kind: str
    target: str
    target_kind: str


@dataclass(frozen=True, slots=True)
class Job:
    """Options of all tables: columns to pass through, and whether invalid rows are reported or refuse a table."""

    keep: Keep
    report: bool


@dataclass(slots=True)
class Outcome:
    """The result of a part. failure: why it has no output; hidden: the file that holds its output."""

    name: str
    rows: int = 0
    bad: int = 0
    total: int = 0
    faults: list[RowFault] = field(default_factory=list)
    failure: str | None = None
    hidden: str | None = None

    @classmethod
    def of(cls, part: Part, tally: Tally) -> "Outcome":
        """Return an outcome with the counts of a tally."""
        return cls(part.name, tally.rows, tally.bad, tally.total, tally.faults)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Outcome":
        """Return the outcome of which `values` are the fields, from JSON."""
        return cls(**{**values, "faults": [RowFault(*fault) for fault in values["faults"]]})


class Engine(Protocol):
    """Scores tables, one at a time. identity: of the model; parts by another model are made again."""

    identity: str

    def score(self, source: Source, part: Part, tally: Tally) -> Iterator[Buffer]:
        """Yield the output of a table, and count its rows in `tally`. Raises RecordError."""
