"""One attempt at a table: from where it lies, through an engine, into a hidden file or stdout."""

import sys
import zlib
from collections.abc import Iterator
from contextlib import closing
from typing import IO, Any

import pyarrow as pa
from pyarrow import fs

from service.cli.job import Buffer, Engine, Job, Kind, Outcome, Part, Tick
from service.cli.plan import PIPE, Plan
from service.cli.store import hidden_file
from service.records.errors import InvalidRows, RecordError, Tally
from service.tables.buffers import OutputBuffer, buffer_until_complete
from service.tables.formats import PARQUET

GZIP = 4  # the level: 6 takes four times as long, for a seventh less


class Metered:
    """A file, and how many bytes of it were read."""

    closed = False

    def __init__(self, file: Any) -> None:
        self.file, self.count = file, 0
        self.close = file.close

    def read(self, size: int = -1, /) -> bytes:
        """See Source."""
        data: bytes = self.file.read(size)
        self.count += len(data)
        return data


class Seekable(Metered):
    """The same for what is not read from front to back."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.seek, self.tell = file.seek, file.tell

    def __enter__(self) -> "Seekable":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Pipe:
    """stdin, or a file that is a pipe: gives what is there."""

    def __init__(self, file: IO[bytes]) -> None:
        self.read = file.read1  # type: ignore[attr-defined]
        self.close = file.close


class InTurn:
    """An Executor: one part after the other, in this process."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self.engine, self.job, self.identity = engine, job, engine.identity

    def attempts(self, found: Plan, parts: list[Part], folder: str, tick: Tick) -> Iterator[Outcome]:
        """See Executor."""
        for part in parts:
            yield attempt(self.engine, self.job, part, found.source, found.target, folder, tick)


def attempt(
    engine: Engine, job: Job, part: Part, source: fs.FileSystem, target: fs.FileSystem, folder: str, tick: Tick
) -> Outcome:
    """Answer a part into a hidden file of `folder`, or to stdout. What is wrong with it is in the outcome."""
    tally = Tally()
    try:
        with closing(_opened(part, source)) as file:
            pieces = engine.answer(file, part, tally)
            pieces = packed(pieces, Kind(part.to).packing)
            path = None
            if part.target == PIPE:
                # Answers that may be refused must not have begun: they are held until they are whole.
                for piece in pieces if job.report else buffer_until_complete(pieces, sys.maxsize):
                    sys.stdout.buffer.write(piece)
                    sys.stdout.buffer.flush()
                    tick(file.count, tally.rows)
            else:
                with hidden_file(target, folder) as (path, stream):
                    for piece in pieces:
                        stream.write(piece)
                        tick(file.count, tally.rows)
        outcome = Outcome.of(part, tally)
        outcome.hidden = path
    except InvalidRows as error:
        outcome = Outcome.of(part, error.tally)
        outcome.failure = str(error)
    except RecordError as error:
        outcome = Outcome(part.name, failure=str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        outcome = Outcome(part.name, failure=said(error))
    return outcome


def packed(pieces: Iterator[Buffer], packing: str | None) -> Iterator[Buffer]:
    """The same bytes, compressed: gzip, zstd or None."""
    if not packing:
        yield from pieces
        return
    if packing == "gzip":
        packer = zlib.compressobj(GZIP, wbits=31)
        yield from map(packer.compress, pieces)
        yield packer.flush()
        return
    sink = OutputBuffer()
    with pa.CompressedOutputStream(pa.PythonFile(sink, "w"), packing) as stream:
        for piece in pieces:
            stream.write(piece)
            yield sink.take()
    yield sink.take()


def said(error: Exception) -> str:
    """What an operating or file system, or a connection, says went wrong: a line without its stop."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")


def _opened(part: Part, system: fs.FileSystem) -> Metered:
    if part.path == PIPE:
        return Metered(_Pipe(sys.stdin.buffer))
    if part.size is None:
        return Metered(_Pipe(open(part.path, "rb")))  # noqa: PTH123  # `attempt` closes it
    came = Kind(part.came)
    if came.format is PARQUET and not came.packing:
        return Seekable(system.open_input_file(part.path))
    return Metered(system.open_input_stream(part.path, compression=None))
