"""One attempt at a table: read it, score it by an engine, write a hidden file or stdout."""

import sys
import zlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from service.cli.score.job import Buffer, Engine, Outcome, Part, Tick
from service.cli.score.output_files import hidden_file
from service.cli.score.plan import Plan
from service.cli.score.storage import PIPE, Storage
from service.client.sender import describe_error
from service.records.errors import InvalidRows, RecordError, Tally
from service.tables.source import OutputBuffer, buffer_until_complete

GZIP_LEVEL = 4  # level 6 takes four times as long for files a seventh smaller


class MeteredFile:
    """A file that counts the bytes read from it. It seeks only if `is_seekable`."""

    closed = False

    def __init__(self, file: Any, is_seekable: bool = False) -> None:
        self.close, self.count = file.close, 0
        if is_seekable:
            self._read, self.seek, self.tell = file.read, file.seek, file.tell
        else:
            self._read = getattr(file, "read1", file.read)  # of a pipe: what is there, without waiting for more

    def read(self, size: int = -1, /) -> bytes:
        data: bytes = self._read(size)
        self.count += len(data)
        return data

    def __enter__(self) -> "MeteredFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SequentialExecutor:
    """An Executor that makes one part after the other in this process."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.identity = engine, engine.identity

    def attempts(self, plan: Plan, folder: str, tick: Tick) -> Iterator[Outcome]:
        for part in plan.parts:
            yield attempt(self.engine, part, plan, folder, tick)


def attempt(engine: Engine, part: Part, plan: Plan, folder: str, tick: Tick) -> Outcome:
    """Score a part into a hidden file of `folder`, or to stdout. Failures are in the outcome."""
    tally, failure, path = Tally(), None, None
    try:
        with _open(part, plan.source) as file:
            pieces = compress(engine.score(file, part, tally), part.target_kind.compression)
            if part.target == PIPE:
                # If an invalid row refuses the table, stdout must stay empty: hold the output until it is complete.
                for piece in pieces if engine.job.report else buffer_until_complete(pieces, sys.maxsize):
                    sys.stdout.buffer.write(piece)
                    sys.stdout.buffer.flush()
                    tick(file.count, tally.rows)
            else:
                with hidden_file(plan.target, folder) as (path, stream):
                    for piece in pieces:
                        stream.write(piece)
                        tick(file.count, tally.rows)
    except InvalidRows as error:
        failure = str(error)
    except RecordError as error:
        tally, failure = Tally(), str(error)
    except BrokenPipeError:
        raise
    except OSError as error:
        tally, failure = Tally(), describe_error(error)
    hidden = None if failure else path
    return Outcome(part.name, tally.rows, tally.bad, tally.total, tally.faults, failure, hidden, tally.notes)


def compress(pieces: Iterator[Buffer], compression: str | None) -> Iterator[Buffer]:
    """Compress bytes; `compression` is gzip, zstd or None."""
    if not compression:
        yield from pieces
        return
    if compression == "gzip":
        compressor = zlib.compressobj(GZIP_LEVEL, wbits=31)
        yield from map(compressor.compress, pieces)
        yield compressor.flush()
        return
    sink = OutputBuffer()
    with pa.CompressedOutputStream(pa.PythonFile(sink, "w"), compression) as stream:
        for piece in pieces:
            stream.write(piece)
            yield sink.take()
    yield sink.take()


def _open(part: Part, storage: Storage) -> MeteredFile:
    if part.path == PIPE:
        return MeteredFile(sys.stdin.buffer)
    is_seekable = part.source_kind.is_read_in_place and part.size is not None
    return MeteredFile(storage.open(part.path, is_seekable), is_seekable)
