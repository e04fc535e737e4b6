"""Read request bodies, within limits for one body and for all together."""

import zlib
from collections.abc import Collection
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from service.http.problems import Problem, busy
from service.records.errors import TableError, TooLarge

JSON = (b"content-type", b"application/json")
ENCODINGS = ("gzip", "deflate", "zstd")
RECORD_ENCODINGS = {"gzip": 31, "deflate": 15}  # zlib's numbers. A record in zstd could ask for 128 MiB of memory.
DAMAGED = "The compressed data are damaged or cut off."
MAX_PENDING_BYTES = 2**28  # of JSON bodies that are still arriving, all together

_pending_bytes = 0  # now


async def read_json(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Read the body of a JSON request, at most `limit` bytes. Raises Problem 413 or 415."""
    if JSON not in scope["headers"]:
        media_type = dict(scope["headers"]).get(b"content-type", b"")
        if media_type.partition(b";")[0].strip().lower() != JSON[1]:
            detail = "Send the header `Content-Type: application/json` and a JSON body."
            raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept-Post": "application/json"})
    return await read_body(scope, receive, limit)


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Read a request's body, at most `limit` bytes. Raises Problem 413."""
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > limit:
            raise body_too_large(limit)  # before it is read, and before `100 Continue` asks for it
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body", False) or message["type"] != "http.request":
        return await _read_rest(body, message, receive, limit)
    if len(body) > limit:
        raise body_too_large(limit)
    return body


async def _read_rest(body: bytes, message: Message, receive: Receive, limit: int) -> bytes:
    global _pending_bytes
    parts, size = [body], 0
    try:
        while message["type"] == "http.request":
            size += len(parts[-1])
            _pending_bytes += len(parts[-1])
            if _pending_bytes > MAX_PENDING_BYTES:
                raise busy("Too many large requests are arriving at once.")
            if size > limit:
                raise body_too_large(limit)
            if not message.get("more_body", False):
                return b"".join(parts)
            message = await receive()
            parts.append(message.get("body", b""))
    finally:
        _pending_bytes -= size
    raise ClientDisconnect


def content_encoding(headers: Headers, among: Collection[str] = ENCODINGS) -> str | None:
    """Return by which of these a request's body is compressed; None if it is not. Raises Problem 415."""
    encoding = ", ".join(headers.getlist("content-encoding")).strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding == "x-gzip":  # RFC 9110: the same as gzip
        return "gzip"
    if encoding not in among:
        listed = ", ".join(among)
        detail = f"Content-Encoding must be one of {listed}."
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept-Encoding": listed})
    return encoding


def decompress(content: bytes, encoding: str, limit: int) -> bytes:
    """Decompress a small body of one of RECORD_ENCODINGS. Raises TooLarge, and TableError for damaged data."""
    found = b""
    while content or not found:
        member = zlib.decompressobj(RECORD_ENCODINGS[encoding])
        try:
            found += member.decompress(content, limit + 1 - len(found))
        except zlib.error:
            raise TableError(DAMAGED) from None
        if len(found) > limit:
            raise TooLarge(f"Decompressed, the body is larger than {limit} bytes.")
        if not member.eof:
            raise TableError(DAMAGED)
        content = member.unused_data  # gzip may have several members
    return found


def body_too_large(limit: int) -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body is larger than {limit} bytes.")
