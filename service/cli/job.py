"""What is asked, for one table or many, and what came of it. Plain data: it travels to other machines."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from service.records.errors import RowFault, Tally
from service.tables import ndjson
from service.tables.buffers import OutputBuffer
from service.tables.columns import Keep
from service.tables.formats import COMPRESSIONS, FORMATS, Format, format_of_file
from service.tables.source import Limits, Source

# Who reads a file of his own needs no protection from its size: what must be in memory as a whole is the only limit.
LIMITS = Limits(sys.maxsize, sys.maxsize, sys.maxsize, part=2**31, spool=sys.maxsize, ratio=2**40)

KINDS = [suffix[1:] for format_ in FORMATS for suffix in format_.suffixes]
ARROW_FILES = ("arrow", "feather")  # Arrow's file format; `arrows` is the stream

Buffer = Any  # bytes or pyarrow's Buffer, which has no type to check
Tick = Callable[[int, int], None]  # is told how many bytes of an input were read so far, and rows answered


class Usage(Exception):
    """The command line asks for what cannot be. The message is one line."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A format by the end of a file's name, such as `csv` or `ndjson.gz`."""

    name: str

    @classmethod
    def of(cls, file: str) -> "Kind | None":
        """The kind that a file's name tells."""
        found = format_of_file(file)
        if not found:
            return None
        words = file.lower().rsplit(".", 2)
        return cls(".".join(words[-2:] if found[1] else words[-1:]))

    @classmethod
    def named(cls, flag: str, name: str) -> "Kind":
        """The kind that a flag names. Raises Usage."""
        found = cls.of(f"x.{name.removeprefix('.')}")
        if not found or found.name != name.lower().removeprefix("."):
            raise Usage(f"{flag}: one of {', '.join(KINDS)}, also with {' or '.join(COMPRESSIONS)}")
        return found

    @property
    def format(self) -> Format:
        """How it is read and written."""
        return self._found[0]

    @property
    def packing(self) -> str | None:
        """gzip, zstd or None."""
        return self._found[1]

    @property
    def _found(self) -> tuple[Format, str | None]:
        found = format_of_file(f"x.{self.name}")
        assert found
        return found

    def write(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], pipe: bool = False) -> Iterator[Buffer]:
        """Batches as bytes, not packed. Into a pipe Arrow goes as a stream."""
        if self.name.split(".")[0] in ARROW_FILES and not pipe:
            return _arrow_file(*ndjson.json_to_text(schema, batches))
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
    """One table and where its answers go, both as paths on their file systems; `-` is stdin or stdout.

    name: of the part within a folder of parts, and what messages call it
    size, changed: of the input, in bytes and ns; None and 0 where it is no file
    """

    name: str
    path: str
    size: int | None
    changed: int
    came: str
    target: str
    to: str


@dataclass(frozen=True, slots=True)
class Job:
    """What holds for all tables: the columns that pass through, and whether bad rows are reported or refuse a table."""

    keep: Keep
    report: bool


@dataclass(slots=True)
class Outcome:
    """What came of a part; `failure` is a sentence where there is no answer, `hidden` the file that holds one."""

    name: str
    rows: int = 0
    bad: int = 0
    total: int = 0
    faults: list[RowFault] = field(default_factory=list)
    failure: str | None = None
    hidden: str | None = None

    @classmethod
    def of(cls, part: Part, tally: Tally) -> "Outcome":
        """With a tally's counts."""
        return cls(part.name, tally.rows, tally.bad, tally.total, tally.faults)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Outcome":
        """What `as_dict` gave, or its JSON."""
        return cls(**{**values, "faults": [RowFault(*fault) for fault in values["faults"]]})

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Engine(Protocol):
    """What answers tables, one at a time. identity: of the model, so that answers of another are made anew."""

    identity: str

    def answer(self, source: Source, part: Part, tally: Tally) -> Iterator[Buffer]:
        """The answers to a table as bytes, while `tally` counts. Raises TableError."""
