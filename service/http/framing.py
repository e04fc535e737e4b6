"""Frame responses as the request's method and version need it: HEAD has no body, HTTP/1.0 has no chunks."""

import asyncio
import contextlib
import errno
import io
import logging
import tempfile
from collections.abc import Iterator
from http import HTTPStatus
from typing import IO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.connection import SLOW_CLIENT_EXEMPT
from service.http.problems import Problem, ProblemResponse, as_problem
from service.records.errors import DiskFull

VERSIONS_WITHOUT_CHUNKS = ("0.9", "1.0")
STATUSES_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)  # nor Content-Length: RFC 9110, section 8.6
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
RESPONSE_HELD = "heart.response_held"  # scope key of requests whose response may begin again, because none is sent yet
MEMORY_BYTES = 2**20  # of a response that is held; more of it is held in a temporary file
READ_BYTES = 2**18
TOO_LONG = "Too much to hold back, as HTTP/1.0 needs it to learn the length: use HTTP/1.1."

log = logging.getLogger(__name__)


class FramingMiddleware:
    """Answer HEAD as GET, without the body, and HTTP/1.0 with the length of the response.

    RFC 9110, section 9.3.2, and RFC 9112, section 6.1. A response to HTTP/1.0 may also end with its connection, but a
    client cannot tell such a one from one that was cut off.

    max_bytes: of all responses that are held at once; stall_seconds: how long to wait for a client to read
    """

    def __init__(self, app: ASGIApp, max_bytes: int, stall_seconds: float) -> None:
        self.app, self.max_bytes, self.stall_seconds = app, max_bytes, stall_seconds
        self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        is_held = scope.get("http_version") in VERSIONS_WITHOUT_CHUNKS
        if not is_head and not is_held:
            await self.app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            await send({**message, "body": b""} if "body" in message else message)

        inner, framed_send = scope, send
        if is_head:
            headers = [header for header in scope["headers"] if header[0] != b"range"]  # ranges are GET's alone
            inner, framed_send = {**scope, "method": "GET", "headers": headers}, send_without_body
        try:
            if not is_held:
                await self.app(inner, receive, framed_send)
                return
            inner[RESPONSE_HELD] = True
            with HeldResponse(self) as held:
                try:
                    await self.app(inner, receive, held.add)
                except Exception:
                    if not held.failure:
                        raise
                if held.failure and not held.is_complete:  # Starlette cannot answer a second time
                    await ProblemResponse(held.failure)(inner, receive, framed_send)
                elif held.is_complete:  # it is not if the client has gone
                    scope[SLOW_CLIENT_EXEMPT] = True  # the timeout in `_send` applies instead
                    await self._send(held, framed_send)
        finally:
            scope["route"] = inner.get("route")  # for the log

    async def _send(self, held: "HeldResponse", send: Send) -> None:
        try:
            for message in held.messages():
                async with asyncio.timeout(self.stall_seconds):
                    await send(message)
        except TimeoutError:
            log.warning("a response was cut off: the client does not read")


class HeldResponse:
    """A response that is not sent yet. A second start replaces what came before it.

    failure: what `add` has raised
    """

    def __init__(self, middleware: FramingMiddleware) -> None:
        self.middleware = middleware
        self.is_complete = False
        self.failure: Problem | None = None
        self.size = 0
        self.start: Message = {}
        self.body: IO[bytes] = io.BytesIO()

    def __enter__(self) -> "HeldResponse":
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    async def add(self, message: Message) -> None:
        """Raises Problem 505 when too much is held, and 507 when the disk is full."""
        if message["type"] == "http.response.start":
            self._drop()
            self.start = message
            self.body = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115  # __exit__ closes it
            return
        data = message.get("body", b"")
        self.size += len(data)
        self.middleware.held_bytes += len(data)
        if self.size > MEMORY_BYTES and self.middleware.held_bytes > self.middleware.max_bytes:
            self.failure = Problem(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, TOO_LONG)
            raise self.failure
        self.is_complete = not message.get("more_body", False)
        try:
            self.body.write(data)
            if self.is_complete:
                self.body.seek(0)  # writes what is buffered
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            self.is_complete = False
            self.failure = as_problem(DiskFull("There is no disk space left to hold the response: use HTTP/1.1."))
            raise self.failure from None

    def messages(self) -> Iterator[Message]:
        """The complete response, with its length."""
        headers = [header for header in self.start["headers"] if header[0] != b"content-length"]
        if self.start["status"] not in STATUSES_WITHOUT_BODY:
            headers.append((b"content-length", b"%d" % self.size))
        yield {**self.start, "headers": headers}
        while data := self.body.read(READ_BYTES):
            yield {"type": "http.response.body", "body": data, "more_body": True}
        yield {"type": "http.response.body", "body": b""}

    def _drop(self) -> None:
        self.middleware.held_bytes -= self.size
        self.size, self.is_complete = 0, False
        with contextlib.suppress(OSError):  # of a full disk, to which the rest cannot be written
            self.body.close()
