"""Score tables of any size: send the table while the results arrive."""

import errno
import os
from collections.abc import Iterable
from http.client import IncompleteRead
from io import BufferedReader, BytesIO, RawIOBase
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal, cast
from urllib.parse import urlencode

from patient.printable import printable
from service.client.duplex import READ_BYTES
from service.client.encode import Frame, Record, encode_record, encode_rows
from service.client.errors import NotThisService, Unavailable
from service.client.sender import NETWORK_ERRORS, Sender, response_id
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
Table = str | os.PathLike[str] | bytes | IO[bytes] | IO[str] | Iterable[bytes] | Iterable[Record] | Frame


class Scored(BufferedReader):
    """The results of a table as a file; reading it sends the rest of the table. Close it, or use `with`.

    notes: what the service left out of the table, such as columns without a name

    Reading raises ServiceError if the response is cut off, and what reading the table raises.
    """

    def __init__(self, sender: Sender, response: Response, body: "_TableBody", request_id: str) -> None:
        headers, self.request_id = response.headers, response_id(response, request_id)
        super().__init__(_ResponseStream(sender, response, body, self.request_id), READ_BYTES)
        self.model_version = printable(headers.get("X-Model-Version", ""))
        try:
            self.threshold = float(headers.get("X-Threshold", "nan"))
        except ValueError:
            self.close()
            message = f"The response from {sender.pool.address.where} is not that of a service of this kind."
            raise NotThisService(message, self.request_id, response.status) from None
        self.notes = [printable(note) for note in headers.get("X-Table-Notes", "").split("; ") if note]
        self.content_type = headers.get_content_type()


def score(
    sender: Sender,
    table: Table,
    kind: str | None,
    to: str | None,
    keep: str | Iterable[str],
    on_error: OnError | None,
    request_id: str | None,
    cancellation: Cancellation,
) -> Scored:
    """Return the results once they begin to arrive. See Client.score.

    Raises ServiceError, ValueError for an unknown format, and what reading the table raises.
    """
    table, are_records = _without_records(table)
    if are_records:
        if kind is not None:
            raise ValueError("`kind` is not for records and frames: they are sent as ndjson")
        kind, on_error = "ndjson", on_error or "refuse"
    query = {"keep": ",".join([keep] if isinstance(keep, str) else keep), "on_error": on_error or ""}
    path = "/predict/batch?" + urlencode({name: value for name, value in query.items() if value})
    body = _TableBody(table)
    request = sender.request(path, _headers(table, kind, to), b"", body, request_id, cancellation)

    def attempt() -> Scored:
        body.rewind()
        try:
            return Scored(sender, sender.open(request), body, request.id)
        except Unavailable as error:
            if not body.can_rewind:
                error.after = None
            raise

    try:
        return sender.retry(attempt, request)
    except BaseException as error:
        body.close()
        if isinstance(error, _TableReadError):
            raise error.cause from None
        raise


def _without_records(table: Table) -> tuple[Table, bool]:
    """Replace a frame, or an iterable of records, by the lines of NDJSON; return whether that was done."""
    if isinstance(table, Frame):
        return (row + b"\n" for row in encode_rows(table)), True
    if isinstance(table, (str, os.PathLike, bytes)) or hasattr(table, "read"):
        return table, False
    pieces = iter(cast(Iterable[Any], table))
    first = next(pieces, b"")
    whole = chain([first], pieces)
    if isinstance(first, (str, bytes, bytearray, memoryview)):
        return whole, False
    return (encode_record(record, f"/{row}") + b"\n" for row, record in enumerate(whole)), True


def _headers(table: Table, kind: str | None, to: str | None) -> dict[str, str]:
    if kind is None and isinstance(table, (str, os.PathLike)):
        parts = Path(table).name.lower().split(".")
        kind = ".".join(parts[-2:] if parts[-1] in COMPRESSIONS else parts[-1:])
    if kind is None:
        raise ValueError("`kind` must name the table's format, such as csv")
    name, _, compression = kind.removeprefix(".").lower().partition(".")
    if name not in TYPES or (compression and compression not in COMPRESSIONS):
        raise ValueError(f"`kind` must be one of {', '.join(TYPES)}, also with .gz or .zst")
    if to is not None and to not in TYPES:
        raise ValueError(f"`to` must be one of {', '.join(TYPES)}")
    headers = {"Content-Type": TYPES[name], "Accept": TYPES[to or name]}
    return headers | {"Content-Encoding": COMPRESSIONS[compression]} if compression else headers


class _ResponseStream(RawIOBase):
    def __init__(self, sender: Sender, response: Response, body: "_TableBody", request_id: str) -> None:
        self.sender, self.response, self.body, self.request_id = sender, response, body, request_id

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any, /) -> int:
        try:
            data = self.response.read1(len(into))
            if not data and self.response.length:
                raise IncompleteRead(b"")
        except _TableReadError as error:
            raise error.cause from None
        except NETWORK_ERRORS as error:
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
            self.file = table if hasattr(table, "read") else _IterableFile(cast(Iterable[bytes | str], table))
            seekable = getattr(table, "seekable", None)
            self.start = self.file.tell() if seekable and seekable() else None

    def rewind(self) -> None:
        """Open the table, or return to its first byte. Raises OSError."""
        self.close()
        if isinstance(self.table, (str, os.PathLike)):
            if isinstance(self.table, str) and not os.path.exists(self.table):  # noqa: PTH110  # Path.exists raises for long text
                raise FileNotFoundError(errno.ENOENT, "`table` is not the path of a file; send a table itself as bytes")
            self.file = open(self.table, "rb")  # noqa: PTH123, SIM115  # `close` does
        elif isinstance(self.table, bytes):
            self.file = BytesIO(self.table)
        elif self.start is not None:
            self.file.seek(self.start)

    def read(self, size: int, /) -> bytes:
        self.can_rewind = self.is_ours or self.start is not None
        try:
            data = self.file.read(size)
            return data.encode() if isinstance(data, str) else bytes(data)
        except Exception as error:
            raise _TableReadError(error) from None

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self.is_ours and self.file:
            self.file.close()


class _IterableFile:
    """An iterable of bytes or text as a file."""

    def __init__(self, pieces: Iterable[bytes | str]) -> None:
        self.pieces = iter(pieces)

    def read(self, _size: int, /) -> bytes | str:
        return next((piece for piece in self.pieces if piece), b"")
