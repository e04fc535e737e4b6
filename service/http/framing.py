"""Frame responses as the request's method and version need it: HEAD has no body, HTTP/1.0 has no chunks."""

import contextlib
import tempfile
from collections.abc import Iterator
from http import HTTPStatus
from typing import IO, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.problems import INTERNAL_ERROR, Problem, ProblemResponse

MEMORY_BYTES = 2**20  # of a response to HTTP/1.0; more of it is held in a temporary file
READ_BYTES = 2**18
HELD_BACK = "heart.response.held_back"  # an ASGI extension: a second start replaces the response
TOO_LONG = "The response is too long to be held back, as HTTP/1.0 needs it: use HTTP/1.1."
NO_SPACE = "There is no disk space left to hold the response back, as HTTP/1.0 needs it: use HTTP/1.1."


class FramingMiddleware:
    """Answer HEAD as GET, without the body, and HTTP/1.0 with the length of the response.

    RFC 9110, section 9.3.2, and RFC 9112, section 6.1. A response to HTTP/1.0 may also end with its connection, but a
    client cannot tell such a one from one that was cut off. max_bytes: of a response that is held back for its length
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        if not is_head and scope.get("http_version") != "1.0":
            await self.app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        inner = scope
        if is_head:  # without Range, which has a meaning for GET alone
            headers = [header for header in scope["headers"] if header[0] != b"range"]
            inner = {**scope, "method": "GET", "headers": headers}
        answer = self._hold_back if scope.get("http_version") == "1.0" else self.app
        try:
            await answer(inner, receive, send_head if is_head else send)
        finally:
            scope["route"] = inner.get("route")  # for the log

    async def _hold_back(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response once it is complete; if it is cut off, an error instead."""
        start: Message = {}
        is_complete, failure = False, INTERNAL_ERROR
        scope["extensions"] = {**scope.get("extensions", {}), HELD_BACK: {}}
        with _temporary_file() as body:

            async def hold(message: Message) -> None:
                nonlocal start, is_complete, failure
                try:
                    if message["type"] == "http.response.start":
                        start = message
                        body.seek(0)
                        body.truncate()
                        return
                    body.write(message.get("body", b""))
                    body.flush()
                except OSError:
                    failure = Problem(HTTPStatus.INSUFFICIENT_STORAGE, NO_SPACE)
                    raise failure from None
                if body.tell() > self.max_bytes:
                    failure = Problem(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, TOO_LONG)
                    raise failure
                is_complete = not message.get("more_body", False)

            try:
                await self.app(scope, receive, hold)
            except Exception:
                if failure is INTERNAL_ERROR:
                    raise
            if not start:  # the client has gone
                return
            if not is_complete:
                await ProblemResponse(failure)(scope, receive, send)
                return
            headers = [header for header in start["headers"] if header[0] != b"content-length"]
            length = (b"content-length", str(body.tell()).encode())
            await send({**start, "headers": [*headers, length]})
            body.seek(0)
            while data := body.read(READ_BYTES):
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


@contextlib.contextmanager
def _temporary_file() -> Iterator[IO[bytes]]:
    file = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115  # closed below
    try:
        yield cast(IO[bytes], file)
    finally:
        with contextlib.suppress(OSError):  # closing flushes, which fails again on a full disk
            file.close()
