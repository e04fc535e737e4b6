"""Buffers for what must be complete before it is used: in memory, and in a temporary file beyond that."""

import contextlib
import errno
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Any, cast

from service.records.errors import DiskFull, TooLarge
from service.tables.source import iter_pieces

MEMORY_BYTES = 2**23  # beyond which a spool moves to disk
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class OutputBuffer:
    """A file for pyarrow's writers; `take` returns what they have written since the last call."""

    closed = False

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        out = b"".join(self.parts)
        self.parts.clear()
        return out

    def flush(self) -> None: ...

    def close(self) -> None: ...


def spool(pieces: Iterable[Any], limit: int) -> IO[bytes]:
    """Write pieces of bytes to a temporary file and rewind it; the caller closes it. Raises TooLarge and DiskFull."""
    file = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115  # the caller closes it
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
