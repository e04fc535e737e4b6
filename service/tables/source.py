"""Read a table's bytes: decompress them while they arrive, refuse them above the limits, and buffer them.

A buffer holds what must be complete before it is used: in memory, and in a temporary file beyond that.
"""

import contextlib
import errno
import io
import tempfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

import pyarrow as pa

from patient.csv import MAX_COLUMNS
from service.records.errors import DiskFull, TableError, TooLarge

# What pyarrow raises for damaged data. Its messages are not repeated: they quote the data.
PYARROW_ERRORS = (pa.ArrowException, OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError)
READ_BYTES = 2**18  # per read
RATIO_EXEMPT_BYTES = 2**24  # of decompressed data, to which the limit of the ratio does not apply
MAX_EMPTY_MEMBERS = 1000  # of gzip, one after the other; bgzip ends with one
SPOOL_MEMORY_BYTES = 2**23  # beyond which a spool moves to disk
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
GIB = 2**30
ZSTD_FRAME, ZSTD_SKIPPED = 0xFD2FB528, 0x184D2A50  # the first four bytes of a frame; the latter with any last digit
ZSTD_REPEATED = 1  # a block of one byte, repeated


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one table; reading beyond one raises TooLarge.

    packed and unpacked: bytes of the table as received, and decompressed
    part:  bytes of what must be in memory as a whole, such as an Arrow batch
    spool: bytes in a temporary file
    ratio: decompressed bytes per compressed byte
    window: bytes of a zstd frame's window, which its decompressor allocates; RFC 9659 allows 8 MiB over HTTP
    columns: as wide as a sheet of Excel by default; each takes memory, also if it is empty
    """

    packed: int = 64 * GIB
    unpacked: int = 64 * GIB
    rows: int = 1_000_000_000
    part: int = GIB // 4
    spool: int = 4 * GIB
    ratio: int = 200
    columns: int = MAX_COLUMNS
    window: int = 2**23


class Source(Protocol):
    """A stream of bytes that a table is read from. An optional `readinto` saves a copy."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, as soon as there are any; b"" at the end."""


class LimitedSource:
    """A source that raises TooLarge above `limit` bytes, and a file for pyarrow. `count`: the bytes read so far."""

    closed = False

    def __init__(self, source: Source, limit: int, message: str = "The table is larger than {} bytes.") -> None:
        self.source, self.limit, self.message, self.count = source, limit, message, 0

    def read(self, size: int, /) -> bytes:
        data = self.source.read(size)
        self._add(len(data))
        return data

    def readinto(self, view: memoryview, /) -> int:
        size = read_into(self.source, view)
        self._add(size)
        return size

    def _add(self, size: int) -> None:
        self.count += size
        if self.count > self.limit:
            raise TooLarge(self.message.format(self.limit))

    def close(self) -> None: ...


class DecompressedSource:
    """The content of a compressed source. No more is decompressed than one read asks for."""

    def __init__(self, compressed: LimitedSource, content: Source, limits: Limits) -> None:
        message = "Decompressed, the table is larger than {} bytes."
        self.compressed, self.content = compressed, LimitedSource(content, limits.unpacked, message)
        self.ratio = limits.ratio

    def read(self, size: int, /) -> bytes:
        """Raises TableError for damaged data, and TooLarge."""
        try:
            data = self.content.read(min(size, READ_BYTES))
        except (zlib.error, OSError, pa.ArrowException):
            raise TableError("The compressed data are damaged or cut off.") from None
        if self.content.count > RATIO_EXEMPT_BYTES + self.ratio * self.compressed.count:
            raise TooLarge(f"The table decompresses to more than {self.ratio} times its size.")
        return data


class GzipReader:
    """The content of one or more gzip members, returned without waiting until `size` bytes are there.

    wbits: zlib's number of the container: 31 is gzip, 15 is zlib's own, which HTTP calls deflate
    """

    def __init__(self, source: Source, wbits: int = 31) -> None:
        self.source, self.rest, self.wbits = source, b"", wbits
        self.member, self.empty = zlib.decompressobj(wbits), 0

    def read(self, size: int, /) -> bytes:
        """Raises zlib.error, and TooLarge for too many members without content."""
        while True:
            if self.member.eof:
                self.rest = self.member.unused_data or self.rest
                if not self._fill():
                    return b""
                self.member, self.empty = zlib.decompressobj(self.wbits), self.empty + 1
                if self.empty > MAX_EMPTY_MEMBERS:
                    raise TooLarge(f"The compressed data have more than {MAX_EMPTY_MEMBERS} empty parts in a row.")
            if data := self.member.decompress(self.rest, size):
                self.rest, self.empty = self.member.unconsumed_tail, 0
                return data
            self.rest = self.member.unconsumed_tail
            if not self.member.eof and not self._fill():
                raise zlib.error("cut off")

    def _fill(self) -> bool:
        self.rest = self.rest or self.source.read(READ_BYTES)
        return bool(self.rest)


class ZstdReader:
    """The content of zstd frames, by pyarrow's decompressor. Its memory depends on their windows: `limits.window`."""

    def __init__(self, source: LimitedSource, limits: Limits) -> None:
        checked = ZstdWindows(source, limits.window)
        self.stream = pa.CompressedInputStream(pa.PythonFile(checked, "r"), "zstd")

    def read(self, size: int, /) -> bytes:
        """Raises OSError."""
        data: bytes = self.stream.read_buffer(size).to_pybytes()  # its `read` leaks memory whenever it raises
        return data


class ZstdWindows:
    """zstd data for pyarrow, as they are, if no frame needs a window of more than `limit` bytes. See RFC 8878."""

    closed = False

    def __init__(self, source: Source, limit: int) -> None:
        self.source, self.head = source, b""
        self.steps = _walk_frames(limit)
        self.need = next(self.steps)  # bytes of a head; or, below 0, bytes to skip

    def read(self, size: int, /) -> bytes:
        """Raises TooLarge, and OSError for data that are not zstd's."""
        data, at = self.source.read(size), 0
        while at < len(data):
            if self.need <= 0:
                step = min(-self.need, len(data) - at)
                self.need += step
                if self.need == 0:
                    self.need = next(self.steps)
            else:
                step = min(self.need - len(self.head), len(data) - at)
                self.head += data[at : at + step]
                if len(self.head) == self.need:
                    head, self.head = self.head, b""
                    self.need = self.steps.send(head)
            at += step
        return data

    def close(self) -> None: ...


def _walk_frames(limit: int) -> Generator[int, bytes, None]:
    """Go through zstd frames: yield the size of each head, which is sent back, and of each body, below 0."""
    while True:
        magic = int.from_bytes((yield 4), "little")
        if magic & ~15 == ZSTD_SKIPPED:
            yield from _skip(int.from_bytes((yield 4), "little"))
            continue
        if magic != ZSTD_FRAME:
            raise OSError("no zstd frame")
        (flags,) = yield 1
        (window,) = (yield 1) if not flags & 32 else (None,)
        if flags & 3:
            yield from _skip((0, 1, 2, 4)[flags & 3])  # the dictionary's number
        digits = (flags >> 5 & 1, 2, 4, 8)[flags >> 6]
        size = int.from_bytes((yield digits), "little") if digits else 0
        if window is not None:
            size = (8 + (window & 7)) << (7 + (window >> 3))
        if size > limit:
            raise TooLarge(f"The zstd data need a window above {limit} bytes: use level 19 at most, not --long.")
        is_last = 0
        while not is_last:
            block = int.from_bytes((yield 3), "little")
            is_last, kind = block & 1, block >> 1 & 3
            yield from _skip(1 if kind == ZSTD_REPEATED else block >> 3)
        if flags & 4:
            yield from _skip(4)  # the checksum


def _skip(size: int) -> Generator[int, bytes, None]:
    if size:
        yield -size


DECOMPRESSORS: dict[str, Callable[[LimitedSource, Limits], Source]] = {
    "gzip": lambda source, _limits: GzipReader(source),
    "deflate": lambda source, _limits: GzipReader(source, wbits=15),
    "zstd": ZstdReader,
}


def open_source(source: Source, compression: str | None, limits: Limits) -> Source:
    """Return a table's bytes within the limits, decompressed from `gzip`, `deflate`, `zstd` or None."""
    limited = LimitedSource(source, limits.packed)
    return DecompressedSource(limited, DECOMPRESSORS[compression](limited, limits), limits) if compression else limited


def iter_pieces(source: Source) -> Iterator[bytes]:
    """Yield all bytes of a source, READ_BYTES at a time."""
    while data := source.read(READ_BYTES):
        yield data


def read_into(source: Source, view: memoryview) -> int:
    """Read up to len(view) bytes into `view`, as soon as there are any; return their number, 0 at the end."""
    if readinto := getattr(source, "readinto", None):
        return int(readinto(view))
    data = source.read(len(view))
    view[: len(data)] = data
    return len(data)


class OutputBuffer(io.BytesIO):
    """A file for pyarrow's writers; `take` returns what they have written since the last call."""

    def take(self) -> bytes:
        out = self.getvalue()
        self.seek(0)
        self.truncate()
        return out

    def close(self) -> None: ...  # pyarrow closes it before the last `take`


def spool(pieces: Iterable[Any], limit: int) -> IO[bytes]:
    """Write pieces of bytes to a temporary file and rewind it; the caller closes it. Raises TooLarge and DiskFull."""
    file = tempfile.SpooledTemporaryFile(SPOOL_MEMORY_BYTES)  # noqa: SIM115  # the caller closes it
    try:
        for piece in pieces:
            file.write(piece)
            if file.tell() > limit:
                raise TooLarge(f"More than {limit} bytes would have to be buffered before the response can begin.")
        file.seek(0)
    except BaseException as error:
        with contextlib.suppress(OSError):  # closing flushes, which fails again on a full disk
            file.close()
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise DiskFull("There is no disk space left to buffer the table.") from None
        raise
    return cast(IO[bytes], file)


def buffer_until_complete(pieces: Iterable[Any], limit: int) -> Iterator[bytes]:
    """Yield the same bytes, but none before the last piece has been produced. Raises TooLarge and DiskFull."""
    with spool(pieces, limit) as file:
        yield from iter_pieces(file)
