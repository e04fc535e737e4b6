"""Tables of any size: what is sent, and the answer while it comes."""

import os
import time
from collections.abc import Iterable
from http.client import HTTPException, IncompleteRead
from io import BufferedReader, BytesIO, RawIOBase
from pathlib import Path
from typing import IO, Any, Literal, cast
from urllib.parse import urlencode

from service.client.core import Core, identified
from service.client.duplex import PIECE
from service.client.errors import Unavailable
from service.client.transport import Response, Stop

TYPES = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "jsonl": "application/x-ndjson",
    "csv": "text/csv",
    "arrows": "application/vnd.apache.arrow.stream",
    "arrow": "application/vnd.apache.arrow.stream",
    "feather": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
PACKED = {"gz": "gzip", "zst": "zstd"}
OnError = Literal["refuse", "report"]
Table = str | os.PathLike[str] | bytes | IO[bytes] | Iterable[bytes]


class Asked:
    """What `score` asks. Raises ValueError for a kind that is none.

    kind, to: of the table and of its answers, such as csv, parquet or, of a table alone, ndjson.gz
    """

    def __init__(
        self, table: Table, kind: str | None, to: str | None, keep: Iterable[str], on_error: OnError | None
    ) -> None:
        if kind is None and isinstance(table, (str, os.PathLike)):
            kind = _kind(Path(table).name)
        if kind is None:
            raise ValueError("`kind` must tell what the table is, such as csv")
        name, _, packing = kind.removeprefix(".").lower().partition(".")
        if name not in TYPES or (packing and packing not in PACKED):
            raise ValueError(f"`kind` is one of {', '.join(TYPES)}, also with .gz or .zst")
        if to is not None and to not in TYPES:
            raise ValueError(f"`to` is one of {', '.join(TYPES)}")
        self.table = table
        self.headers = {"Content-Type": TYPES[name], "Accept": TYPES[to or name]}
        if packing:
            self.headers["Content-Encoding"] = PACKED[packing]
        query = {"keep": ",".join([keep] if isinstance(keep, str) else keep), "on_error": on_error or ""}
        self.path = "/predict/batch?" + urlencode({name: value for name, value in query.items() if value})


class Scored(BufferedReader):
    """The answers to a table as a file, read while they come and the table's rest is sent. Close it, or use `with`.

    Reading raises ServiceError where the answer ends before its end, and what reading the table raises.
    """

    def __init__(self, core: Core, response: Response, sent: "_Sent", number: str) -> None:
        super().__init__(_Answer(core, response, sent, number), PIECE)
        self.model_version = response.headers.get("X-Model-Version", "")
        self.threshold = float(response.headers.get("X-Threshold", "nan"))
        self.content_type = response.headers.get_content_type()
        self.request_id = response.headers.get("X-Request-ID", number)


def score(core: Core, asked: Asked, request_id: str | None, stop: Stop) -> Scored:
    """The answer to a table, once it has begun. Raises ServiceError, and what reading the table raises."""
    number = identified(request_id)
    sent = _Sent(asked.table)
    until = time.monotonic() + core.deadline

    def attempt() -> Scored:
        sent.begin()
        try:
            response = core.begun("POST", asked.path, asked.headers, None, sent, number, until, stop)
        except Unavailable as error:
            if not sent.again:
                error.after = None
            raise
        return Scored(core, response, sent, number)

    try:
        return core.retried(attempt, until, stop)
    except _Unreadable as error:
        sent.close()
        raise error.cause from None
    except BaseException:
        sent.close()
        raise


class _Answer(RawIOBase):
    def __init__(self, core: Core, response: Response, sent: "_Sent", number: str) -> None:
        self.core, self.response, self.sent, self.number = core, response, sent, number

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any, /) -> int:
        answer = self.response.http
        try:
            data = answer.read1(len(into))
            if not data and answer.length:
                raise IncompleteRead(b"")
        except _Unreadable as error:
            raise error.cause from None
        except (OSError, HTTPException) as error:
            failure = self.core.failure(error, self.number)
            if isinstance(failure, Unavailable):
                failure.after = None
            raise failure from None
        into[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self.sent.close()
            self.core.pool.give(self.response)
        super().close()


class _Unreadable(Exception):
    """The table cannot be read, which is no failure of the network."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class _Sent:
    """A table while it is sent. again: whether it can be sent once more, from where it began."""

    def __init__(self, table: Table) -> None:
        self.table, self.again = table, True
        self.own = isinstance(table, (str, os.PathLike, bytes))
        self.file: Any = None
        self.start: int | None = None
        if not self.own:
            self.file = table if hasattr(table, "read") else _Pieces(cast(Iterable[bytes], table))
            seekable = getattr(table, "seekable", None)
            self.start = self.file.tell() if seekable and seekable() else None

    def begin(self) -> None:
        """From its first byte. Raises OSError."""
        self.close()
        if isinstance(self.table, (str, os.PathLike)):
            self.file = open(self.table, "rb")  # noqa: PTH123, SIM115  # `close` does
        elif isinstance(self.table, bytes):
            self.file = BytesIO(self.table)
        elif self.start is not None:
            self.file.seek(self.start)

    def read(self, size: int, /) -> bytes:
        """See Body."""
        self.again = self.own or self.start is not None
        try:
            return bytes(self.file.read(size))
        except Exception as error:
            raise _Unreadable(error) from None

    def close(self) -> None:
        """What was opened here."""
        if self.own and self.file:
            self.file.close()


class _Pieces:
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = iter(pieces)

    def read(self, _size: int, /) -> bytes:
        """The next piece that is not empty."""
        return next((piece for piece in self.pieces if piece), b"")


def _kind(name: str) -> str | None:
    """csv.gz of patients.csv.gz."""
    words = name.lower().split(".")
    return ".".join(words[-2:] if words[-1] in PACKED else words[-1:])
