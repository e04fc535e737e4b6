"""Score tables of any size: send the table while the results arrive."""

import os
import time
from collections.abc import Iterable
from http.client import HTTPException, IncompleteRead
from io import BufferedReader, BytesIO, RawIOBase
from pathlib import Path
from typing import IO, Any, Literal, cast
from urllib.parse import urlencode

from service.client.duplex import READ_BYTES
from service.client.errors import Unavailable
from service.client.sender import Request, Sender, checked_id
from service.client.transport import Cancellation, Response

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
COMPRESSIONS = {"gz": "gzip", "zst": "zstd"}
OnError = Literal["refuse", "report"]
Table = str | os.PathLike[str] | bytes | IO[bytes] | Iterable[bytes]


class TableCall:
    """The request that scores a table. Raises ValueError for an unknown format.

    kind: the table's format, such as csv or ndjson.gz; to: the format of the results, such as parquet
    """

    def __init__(
        self, table: Table, kind: str | None, to: str | None, keep: Iterable[str], on_error: OnError | None
    ) -> None:
        if kind is None and isinstance(table, (str, os.PathLike)):
            kind = _kind_of_file(Path(table).name)
        if kind is None:
            raise ValueError("`kind` must name the table's format, such as csv")
        name, _, compression = kind.removeprefix(".").lower().partition(".")
        if name not in TYPES or (compression and compression not in COMPRESSIONS):
            raise ValueError(f"`kind` must be one of {', '.join(TYPES)}, also with .gz or .zst")
        if to is not None and to not in TYPES:
            raise ValueError(f"`to` must be one of {', '.join(TYPES)}")
        self.table = table
        self.headers = {"Content-Type": TYPES[name], "Accept": TYPES[to or name]}
        if compression:
            self.headers["Content-Encoding"] = COMPRESSIONS[compression]
        query = {"keep": ",".join([keep] if isinstance(keep, str) else keep), "on_error": on_error or ""}
        self.path = "/predict/batch?" + urlencode({name: value for name, value in query.items() if value})


class Scored(BufferedReader):
    """The results of a table as a file; reading it sends the rest of the table. Close it, or use `with`.

    Reading raises ServiceError if the response is cut off, and what reading the table raises.
    """

    def __init__(self, sender: Sender, response: Response, body: "_TableBody", request_id: str) -> None:
        super().__init__(_ResponseStream(sender, response, body, request_id), READ_BYTES)
        self.model_version = response.headers.get("X-Model-Version", "")
        self.threshold = float(response.headers.get("X-Threshold", "nan"))
        self.content_type = response.headers.get_content_type()
        self.request_id = response.headers.get("X-Request-ID", request_id)


def score(sender: Sender, call: TableCall, request_id: str | None, cancellation: Cancellation) -> Scored:
    """Return the results once they begin to arrive. Raises ServiceError, and what reading the table raises."""
    id_ = checked_id(request_id)
    body = _TableBody(call.table)
    until = time.monotonic() + sender.deadline
    request = Request("POST", call.path, call.headers, None, body, id_, until, cancellation)

    def attempt() -> Scored:
        body.rewind()
        try:
            response = sender.open(request)
        except Unavailable as error:
            if not body.can_rewind:
                error.after = None
            raise
        return Scored(sender, response, body, id_)

    try:
        return sender.retry(attempt, until, cancellation)
    except _TableReadError as error:
        body.close()
        raise error.cause from None
    except BaseException:
        body.close()
        raise


class _ResponseStream(RawIOBase):
    def __init__(self, sender: Sender, response: Response, body: "_TableBody", request_id: str) -> None:
        self.sender, self.response, self.body, self.request_id = sender, response, body, request_id

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any, /) -> int:
        http = self.response.http
        try:
            data = http.read1(len(into))
            if not data and http.length:
                raise IncompleteRead(b"")
        except _TableReadError as error:
            raise error.cause from None
        except (OSError, HTTPException) as error:
            service_error = self.sender.to_service_error(error, self.request_id)
            if isinstance(service_error, Unavailable):
                service_error.after = None
            raise service_error from None
        into[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self.body.close()
            self.sender.pool.put(self.response)
        super().close()


class _TableReadError(Exception):
    """Reading the table failed, which must not count as a failure of the network."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class _TableBody:
    """A table as a request's body. can_rewind: whether it can be sent again from its first byte."""

    def __init__(self, table: Table) -> None:
        self.table, self.can_rewind = table, True
        self.is_ours = isinstance(table, (str, os.PathLike, bytes))
        self.file: Any = None
        self.start: int | None = None
        if not self.is_ours:
            self.file = table if hasattr(table, "read") else _IterableFile(cast(Iterable[bytes], table))
            seekable = getattr(table, "seekable", None)
            self.start = self.file.tell() if seekable and seekable() else None

    def rewind(self) -> None:
        """Open the table, or return to its first byte. Raises OSError."""
        self.close()
        if isinstance(self.table, (str, os.PathLike)):
            self.file = open(self.table, "rb")  # noqa: PTH123, SIM115  # `close` does
        elif isinstance(self.table, bytes):
            self.file = BytesIO(self.table)
        elif self.start is not None:
            self.file.seek(self.start)

    def read(self, size: int, /) -> bytes:
        self.can_rewind = self.is_ours or self.start is not None
        try:
            return bytes(self.file.read(size))
        except Exception as error:
            raise _TableReadError(error) from None

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self.is_ours and self.file:
            self.file.close()


class _IterableFile:
    """An iterable of bytes as a file."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = iter(pieces)

    def read(self, _size: int, /) -> bytes:
        return next((piece for piece in self.pieces if piece), b"")


def _kind_of_file(name: str) -> str:
    """Return csv.gz for patients.csv.gz."""
    parts = name.lower().split(".")
    return ".".join(parts[-2:] if parts[-1] in COMPRESSIONS else parts[-1:])
