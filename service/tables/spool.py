"""What must be held as a whole before it can be used: in memory at first, then in a temporary file."""

import contextlib
import errno
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Any, cast

from service.records.errors import DiskFull, TooLarge
from service.tables.source import PIECE, Source

MEMORY = 2**23  # bytes that are held there
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def spooled(pieces: Iterable[Any], limit: int) -> IO[bytes]:
    """The bytes as an open file, at its start; who gets it closes it. Raises TooLarge."""
    file = tempfile.SpooledTemporaryFile(MEMORY)  # noqa: SIM115  # whoever gets it closes it
    try:
        for piece in pieces:
            file.write(piece)
            if file.tell() > limit:
                raise TooLarge(f"More than {limit} bytes would have to be set aside before the answer can begin.")
        file.seek(0)
    except BaseException as error:
        with contextlib.suppress(OSError):  # it writes what it has not yet written, and there is no more room
            file.close()
        if isinstance(error, OSError) and error.errno in FULL:
            raise DiskFull("There is no room on the disk to set the table aside.") from None
        raise
    return cast(IO[bytes], file)


def held(pieces: Iterable[Any], limit: int) -> Iterator[bytes]:
    """The same bytes, the first of them only when there are no more to come. Raises TooLarge."""
    with spooled(pieces, limit) as file:
        yield from contents(file)


def contents(source: Source) -> Iterator[bytes]:
    """All that a source gives."""
    while data := source.read(PIECE):
        yield data
