"""Bytes as they come, packed or not, never more of them than the limits allow."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import pyarrow as pa

from service.records.errors import TableError, TooLarge

# What pyarrow raises for damaged data. Its messages are not repeated: they quote the data.
PYARROW_ERRORS = (pa.ArrowException, OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError)
PIECE = 2**18  # bytes that are asked for at once
SLACK = 2**24  # bytes that may come out of a packed source, however few went in

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a table is read. Above them TooLarge.

    packed and unpacked: bytes of the table, as they come and once decompressed
    part:  bytes of what must be in memory as a whole, such as an Arrow batch
    spool: bytes in a temporary file
    ratio: bytes that a compressed byte may stand for
    """

    packed: int = 64 * GIB
    unpacked: int = 64 * GIB
    rows: int = 1_000_000_000
    part: int = GIB // 4
    spool: int = 4 * GIB
    ratio: int = 200


class Source(Protocol):
    """What a table is read from. It may have a `readinto`, which spares a copy."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, as soon as there are any; none at the end."""


class Counted:
    """A source that refuses to give more than a limit. `count` says how many bytes it gave."""

    def __init__(self, source: Source, limit: int, what: str = "The table is larger than {} bytes.") -> None:
        self.source, self.limit, self.what, self.count = source, limit, what, 0

    def read(self, size: int, /) -> bytes:
        """See Source. Raises TooLarge."""
        data = self.source.read(size)
        self.count += len(data)
        if self.count > self.limit:
            raise TooLarge(self.what.format(self.limit))
        return data

    def readinto(self, view: memoryview, /) -> int:
        """See `fill`. Raises TooLarge."""
        size = fill(self.source, view)
        self.count += size
        if self.count > self.limit:
            raise TooLarge(self.what.format(self.limit))
        return size


class Unpacked:
    """What a packed source holds. `unpack` makes as many bytes of it as it is asked for."""

    def __init__(self, packed: Counted, limits: Limits, reader: Callable[[Source], Source]) -> None:
        self.packed, self.limits = packed, limits
        self.reader = Counted(reader(packed), limits.unpacked, "Unpacked, the table is larger than {} bytes.")

    def read(self, size: int, /) -> bytes:
        """See Source. Raises TableError for damaged data, and TooLarge."""
        try:
            data = self.reader.read(min(size, PIECE))
        except (zlib.error, OSError, pa.ArrowException):
            raise TableError("The compressed data are damaged or cut off.") from None
        if self.reader.count > SLACK + self.limits.ratio * self.packed.count:
            raise TooLarge(f"The table unpacks to more than {self.limits.ratio} times its size.")
        return data


class Gzip:
    """The content of one or more gzip members. Gives what it has, without waiting for a full piece.

    wbits: what zlib calls the container; 31 is gzip, 15 its own, which HTTP calls deflate
    """

    def __init__(self, source: Source, wbits: int = 31) -> None:
        self.source, self.rest, self.wbits = source, b"", wbits
        self.member = zlib.decompressobj(wbits)

    def read(self, size: int, /) -> bytes:
        """See Source. Raises zlib.error."""
        while True:
            if self.member.eof:
                self.rest = self.member.unused_data or self.rest
                if not self._more():
                    return b""
                self.member = zlib.decompressobj(self.wbits)
            if data := self.member.decompress(self.rest, size):
                self.rest = self.member.unconsumed_tail
                return data
            self.rest = self.member.unconsumed_tail
            if not self.member.eof and not self._more():
                raise zlib.error("cut off")

    def _more(self) -> bool:
        self.rest = self.rest or self.source.read(PIECE)
        return bool(self.rest)


class Zstd:
    """The content of zstd frames, by pyarrow's own decompressor."""

    def __init__(self, source: Source) -> None:
        self.stream = pa.CompressedInputStream(pa.PythonFile(_File(source), "r"), "zstd")

    def read(self, size: int, /) -> bytes:
        """See Source. Raises OSError."""
        data: bytes = self.stream.read_buffer(size).to_pybytes()  # its own `read` loses memory whenever it raises
        return data


class _File:
    """A source as pyarrow takes it."""

    closed = False

    def __init__(self, source: Source) -> None:
        self.read = source.read

    def close(self) -> None:
        """There is nothing to close."""


PACKINGS: dict[str, Callable[[Source], Source]] = {"gzip": Gzip, "deflate": partial(Gzip, wbits=15), "zstd": Zstd}


def opened(source: Source, packing: str | None, limits: Limits) -> Source:
    """The bytes of the table itself, from a source that may be packed: `gzip`, `deflate`, `zstd` or None."""
    counted = Counted(source, limits.packed)
    return Unpacked(counted, limits, PACKINGS[packing]) if packing else counted


def fill(source: Source, view: memoryview) -> int:
    """Read up to as many bytes as a view holds into it, as soon as there are any; 0 at the end."""
    if readinto := getattr(source, "readinto", None):
        return int(readinto(view))
    data = source.read(len(view))
    view[: len(data)] = data
    return len(data)


def exactly(source: Source, size: int) -> bytes:
    """As many bytes as asked for; fewer only at the end."""
    data = source.read(size) if size else b""
    if len(data) == size or not data:
        return data
    parts, missing = [data], size - len(data)
    while missing and (data := source.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)
