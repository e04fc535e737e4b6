"""Uvicorn's HTTP/1.1, with limits to what one connection may hold, and for how long.

Bytes are counted as they come. For time, each connection is looked at now and then, so that a request costs no timer
of its own. What is refused here is a problem+json like any other.
"""

import asyncio
import socket
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.http.problems import Problem, ProblemResponse, busy
from service.settings import Settings

URL = 8192  # bytes: what RFC 9110 wants supported
LOOKS = 4  # in the time that a request may take to come
SLOW_CLIENT_EXEMPT = (
    "heart.slow_client_exempt"  # in the scope of a request that minds by itself how slowly it comes and is read
)
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # ends a half-open one within a minute
INVALID = Problem(HTTPStatus.BAD_REQUEST, "Not a valid HTTP request.")
LATE = Problem(HTTPStatus.REQUEST_TIMEOUT, "The request took too long to come.")
FULL = busy("Too many connections.")


class Connection(HttpToolsProtocol):
    """One connection."""

    def __init__(self, settings: Settings, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.most_connections, self.most_head = settings.max_connections, settings.max_head
        self.between = settings.max_arrival / LOOKS  # seconds
        self.url = b""
        self.refusal = INVALID
        self.unused = 0  # bytes of which neither a head nor a piece of a body has come
        self.seen: object = None  # the request as it was at the last look
        self.waited = 0  # looks at which it had not come on
        self.unread, self.stuck = 0, 0  # bytes that the client has not taken, and looks at which these were no fewer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there; one too many is sent away."""
        super().connection_made(transport)
        accepted = transport.get_extra_info("socket")
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            if hasattr(socket, option):
                accepted.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self.timer = self.loop.call_later(self.between, self.look)
        if len(self.connections) > self.most_connections:
            self.refuse(FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self.timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self.unused += len(data)
        super().data_received(data)
        if self.unused > self.most_head:
            self.refuse(self._too_large())

    def on_headers_complete(self) -> None:
        """A head is there. Raises to refuse it, and Uvicorn calls `send_400_response`."""
        if self.unused > URL:  # else there is nothing to add up
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.most_head or len(self.url) > URL:
                self.refusal = self._too_large()
                raise ValueError
        self.unused = 0
        super().on_headers_complete()
        self.headers = TRAILERS

    def on_body(self, body: bytes) -> None:
        """A piece of a body is there. One that comes alone is handed on as it is; Uvicorn would copy it twice."""
        self.unused = 0
        if not (held := self.cycle.body):
            self.cycle.body = b""  # type: ignore[assignment]  # to which adding copies nothing
        elif isinstance(held, bytes):
            self.cycle.body = bytearray(held)
        super().on_body(body)

    def send_400_response(self, _msg: str) -> None:
        """What came is not HTTP, or was refused by `on_headers_complete`."""
        self.refuse(self.refusal)

    def refuse(self, problem: Problem) -> None:
        """Answer with a problem, if that can be the answer to what came last, and close.

        What follows a request that is whole is the next one, which gets no answer; the whole one does first.
        """
        cycle = self.cycle
        under_way = cycle is not None and not cycle.response_complete
        if under_way and not cycle.more_body:
            cycle.keep_alive = False  # Uvicorn then closes behind its answer
            self.flow.pause_reading()
            return
        if not (under_way and (cycle.response_started or self.pipeline)) and not self.transport.is_closing():
            self.transport.write(b"".join(self._written(problem)))
        self.transport.close()

    def look(self) -> None:
        """See whether this connection has come on since the last look, and end it if it has not for too long."""
        self.timer = self.loop.call_later(self.between, self.look)
        cycle, closing = self.cycle, self.transport.is_closing()
        done = cycle is None or cycle.response_complete
        patient = not done and not closing and SLOW_CLIENT_EXEMPT in cycle.scope
        unread = self.transport.get_write_buffer_size()
        self.stuck = self.stuck + 1 if unread and unread >= self.unread and not patient else 0
        waits = done or (cycle.more_body and not patient)
        self.waited = self.waited + 1 if waits and self.seen == (cycle, done) else 0
        self.seen, self.unread = (cycle, done), unread
        if self.stuck > LOOKS:
            self.transport.abort()  # to close would be to wait for the client to read
        elif self.waited >= LOOKS and (self.unused or not done):
            self.refuse(LATE)
        elif self.waited >= LOOKS:
            self.transport.close()  # nothing was asked

    def _too_large(self) -> Problem:
        if len(self.url) > URL:
            return Problem(HTTPStatus.REQUEST_URI_TOO_LONG, f"The URL is longer than {URL} bytes.")
        detail = f"The head of the request is larger than {self.most_head} bytes."
        return Problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)

    def _written(self, problem: Problem) -> Iterator[bytes]:
        answer = ProblemResponse(problem)
        yield STATUS_LINE[problem.status]
        for name, value in (*self.server_state.default_headers, *answer.raw_headers, (b"connection", b"close")):
            yield b"%b: %b\r\n" % (name, value)
        yield b"\r\n"
        yield bytes(answer.body)

    def _unsupported_upgrade_warning(self) -> None:
        """Whoever asks for another protocol is answered in this one, and that is nothing to be warned of."""


class _Dropped(list[tuple[bytes, bytes]]):
    """Where trailers go. As headers they would slip past whoever has looked at those already."""

    def append(self, _header: tuple[bytes, bytes], /) -> None:
        """Forget it."""


TRAILERS = _Dropped()
