"""One attempt at a table: read it, score it by an engine, write a hidden file or stdout."""

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
from service.tables.formats import PARQUET
from service.tables.source import OutputBuffer, buffer_until_complete

GZIP_LEVEL = 4  # level 6 takes four times as long for files a seventh smaller


class Metered:
    """A file that counts the bytes read from it."""

    closed = False

    def __init__(self, file: Any) -> None:
        self.file, self.count = file, 0
        self.close = file.close

    def read(self, size: int = -1, /) -> bytes:
        data: bytes = self.file.read(size)
        self.count += len(data)
        return data


class Seekable(Metered):
    """The same for formats that seek, such as Parquet."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.seek, self.tell = file.seek, file.tell

    def __enter__(self) -> "Seekable":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Pipe:
    """stdin or a named pipe: `read` returns what is there, without waiting for more."""

    def __init__(self, file: IO[bytes]) -> None:
        self.read = file.read1  # type: ignore[attr-defined]
        self.close = file.close


class SequentialExecutor:
    """An Executor that makes one part after the other in this process."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self.engine, self.job, self.identity = engine, job, engine.identity

    def attempts(self, plan: Plan, parts: list[Part], folder: str, tick: Tick) -> Iterator[Outcome]:
        for part in parts:
            yield attempt(self.engine, self.job, part, plan.source, plan.target, folder, tick)


def attempt(
    engine: Engine, job: Job, part: Part, source: fs.FileSystem, target: fs.FileSystem, folder: str, tick: Tick
) -> Outcome:
    """Score a part into a hidden file of `folder`, or to stdout. Failures are in the outcome."""
    tally = Tally()
    try:
        with closing(_open(part, source)) as file:
            pieces = engine.score(file, part, tally)
            pieces = compress(pieces, Kind(part.target_kind).packing)
            path = None
            if part.target == PIPE:
                # If an invalid row refuses the table, stdout must stay empty: hold the output until it is complete.
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
        outcome = Outcome(part.name, failure=describe(error))
    return outcome


def compress(pieces: Iterator[Buffer], packing: str | None) -> Iterator[Buffer]:
    """Compress bytes; `packing` is gzip, zstd or None."""
    if not packing:
        yield from pieces
        return
    if packing == "gzip":
        compressor = zlib.compressobj(GZIP_LEVEL, wbits=31)
        yield from map(compressor.compress, pieces)
        yield compressor.flush()
        return
    sink = OutputBuffer()
    with pa.CompressedOutputStream(pa.PythonFile(sink, "w"), packing) as stream:
        for piece in pieces:
            stream.write(piece)
            yield sink.take()
    yield sink.take()


def describe(error: Exception) -> str:
    """Return the message of an operating or file system: one line without its full stop."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")


def _open(part: Part, system: fs.FileSystem) -> Metered:
    if part.path == PIPE:
        return Metered(_Pipe(sys.stdin.buffer))
    if part.size is None:
        return Metered(_Pipe(open(part.path, "rb")))  # noqa: PTH123  # `attempt` closes it
    source_kind = Kind(part.source_kind)
    if source_kind.format is PARQUET and not source_kind.packing:
        return Seekable(system.open_input_file(part.path))
    return Metered(system.open_input_stream(part.path, compression=None))
