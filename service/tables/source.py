"""Sources of a table's bytes: decompressed while they are read, and refused above the limits."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import pyarrow as pa

from service.records.errors import TableError, TooLarge

# What pyarrow raises for damaged data. Its messages are not repeated: they quote the data.
PYARROW_ERRORS = (pa.ArrowException, OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError)
READ_BYTES = 2**18  # per read
RATIO_EXEMPT_BYTES = 2**24  # of decompressed data, to which the limit of the ratio does not apply

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a table is read; TooLarge is raised above.

    packed and unpacked: bytes of the table as received, and decompressed
    part:  bytes of what must be in memory as a whole, such as an Arrow batch
    spool: bytes in a temporary file
    ratio: decompressed bytes per compressed byte
    """

    packed: int = 64 * GIB
    unpacked: int = 64 * GIB
    rows: int = 1_000_000_000
    part: int = GIB // 4
    spool: int = 4 * GIB
    ratio: int = 200


class Source(Protocol):
    """What a table is read from. An optional `readinto` saves a copy."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, as soon as there are any; b"" at the end."""


class LimitedSource:
    """A source that raises TooLarge above `limit` bytes. `count` is the number of bytes read so far."""

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


class DecompressedSource:
    """The content of a compressed source. No more is decompressed than one read asks for."""

    def __init__(self, compressed: LimitedSource, limits: Limits, reader: Callable[[Source], Source]) -> None:
        self.compressed, self.ratio = compressed, limits.ratio
        self.reader = LimitedSource(
            reader(compressed), limits.unpacked, "Decompressed, the table is larger than {} bytes."
        )

    def read(self, size: int, /) -> bytes:
        """Raises TableError for damaged data, and TooLarge."""
        try:
            data = self.reader.read(min(size, READ_BYTES))
        except (zlib.error, OSError, pa.ArrowException):
            raise TableError("The compressed data are damaged or cut off.") from None
        if self.reader.count > RATIO_EXEMPT_BYTES + self.ratio * self.compressed.count:
            raise TooLarge(f"The table decompresses to more than {self.ratio} times its size.")
        return data


class GzipReader:
    """The content of one or more gzip members, returned without waiting until `size` bytes are there.

    wbits: zlib's number of the container: 31 is gzip, 15 is zlib's own, which HTTP calls deflate
    """

    def __init__(self, source: Source, wbits: int = 31) -> None:
        self.source, self.rest, self.wbits = source, b"", wbits
        self.member = zlib.decompressobj(wbits)

    def read(self, size: int, /) -> bytes:
        """Raises zlib.error."""
        while True:
            if self.member.eof:
                self.rest = self.member.unused_data or self.rest
                if not self._fill():
                    return b""
                self.member = zlib.decompressobj(self.wbits)
            if data := self.member.decompress(self.rest, size):
                self.rest = self.member.unconsumed_tail
                return data
            self.rest = self.member.unconsumed_tail
            if not self.member.eof and not self._fill():
                raise zlib.error("cut off")

    def _fill(self) -> bool:
        self.rest = self.rest or self.source.read(READ_BYTES)
        return bool(self.rest)


class ZstdReader:
    """The content of zstd frames, by pyarrow's decompressor."""

    def __init__(self, source: Source) -> None:
        self.stream = pa.CompressedInputStream(pa.PythonFile(_File(source), "r"), "zstd")

    def read(self, size: int, /) -> bytes:
        """Raises OSError."""
        data: bytes = self.stream.read_buffer(size).to_pybytes()  # its `read` leaks memory whenever it raises
        return data


class _File:
    """A source with the attributes that pyarrow needs of a file."""

    closed = False

    def __init__(self, source: Source) -> None:
        self.read = source.read

    def close(self) -> None: ...


DECOMPRESSORS: dict[str, Callable[[Source], Source]] = {
    "gzip": GzipReader,
    "deflate": partial(GzipReader, wbits=15),
    "zstd": ZstdReader,
}


def open_source(source: Source, compression: str | None, limits: Limits) -> Source:
    """Return a table's bytes within the limits, decompressed from `gzip`, `deflate`, `zstd` or None."""
    limited = LimitedSource(source, limits.packed)
    return DecompressedSource(limited, limits, DECOMPRESSORS[compression]) if compression else limited


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


def read_exactly(source: Source, size: int) -> bytes:
    """Read `size` bytes; fewer only at the end."""
    data = source.read(size) if size else b""
    if len(data) == size or not data:
        return data
    parts, missing = [data], size - len(data)
    while missing and (data := source.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)
