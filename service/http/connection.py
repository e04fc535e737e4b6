"""Uvicorn's HTTP/1.1 protocol with limits on the size of a request's head and on slow clients.

Bytes are counted as they arrive. Time is checked by polling each connection MAX_IDLE_POLLS times per `max_arrival`, so
that a request needs no timer. Requests that are rejected here get a problem+json response like any other.
"""

import asyncio
import socket
import sys
from collections import OrderedDict, deque
from http import HTTPStatus
from itertools import islice
from typing import Any

from httptools import HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.http.hosts import INVALID_HOST, Hosts, host_problem
from service.http.problems import Problem, ProblemResponse, busy
from service.settings import Settings

MAX_URL_BYTES = 8192  # RFC 9110 asks servers to support 8,000
MAX_PIPELINED = 16  # requests that are parsed at once; each takes some 50 times the memory of its bytes
HEAD_END = b"\r\n\r\n"
MAX_SEARCHED = 64  # connections that are looked at to find an idle one
MAX_IDLE_POLLS = 4  # polls within the time that a request may take to arrive
SLOW_CLIENT_EXEMPT = "heart.slow_client_exempt"  # scope key of requests that limit slow clients themselves
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # ends a half-open connection in a minute
INVALID_REQUEST = Problem(HTTPStatus.BAD_REQUEST, "Not a valid HTTP request.")
SLOW_REQUEST = Problem(HTTPStatus.REQUEST_TIMEOUT, "The request took too long to arrive.")
TOO_MANY_CONNECTIONS = busy("Too many connections.")
FRAMING = (b"content-length", b"transfer-encoding")  # the headers that delimit a body
TRAILERS = deque[tuple[bytes, bytes]](maxlen=0)  # drops trailers: Uvicorn would treat them as headers


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection.

    by_activity: all connections of this process, the one that was seen active longest ago first; its values are unused
    """

    def __init__(
        self,
        settings: Settings,
        hosts: Hosts,
        by_activity: "OrderedDict[LimitedHttpProtocol, None]",
        **uvicorn_arguments: Any,
    ) -> None:
        super().__init__(**uvicorn_arguments)
        self.by_activity = by_activity
        self.accepted_hosts = hosts
        self.sent_hosts: list[bytes] | None = None  # those of the last request, which were accepted
        self.max_connections, self.max_head_bytes = settings.max_connections, settings.max_head
        self.small_head_bytes = min(MAX_URL_BYTES, settings.max_head)  # a smaller head exceeds neither limit
        self.poll_seconds = settings.max_arrival / MAX_IDLE_POLLS
        self.url = b""
        self.data = self.rest = b""  # received last; of that, what is to be parsed after an Upgrade header
        self.rejection = INVALID_REQUEST
        self.is_half_closed = False  # by the client
        self.held = b""  # received, but to be parsed after the requests that wait
        self.unparsed_bytes = 0  # received since the last complete head or piece of a body
        self.polled_request: object = None  # the request's state at the last poll
        self.idle_polls = 0  # consecutive polls at which a request that is arriving had not changed
        self.unsent_bytes = 0  # that the client had not read at the last poll
        self.blocked_polls = 0  # consecutive polls at which `unsent_bytes` had not fallen

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        accepted = transport.get_extra_info("socket")
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            if hasattr(socket, option):
                accepted.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self.timer = self.loop.call_later(self.poll_seconds, self.poll)
        if len(self.connections) > self.max_connections and not self._end_idle_connection():
            self.reject(TOO_MANY_CONNECTIONS)
        self.by_activity[self] = None

    def _end_idle_connection(self) -> bool:
        """End the connection that has been idle longest. Return False if none of those searched is idle.

        Busy ones move to the end, so that they are not searched again at the next connection.
        """
        for connection in list(islice(self.by_activity, MAX_SEARCHED)):
            if connection._is_idle():
                del self.by_activity[connection]  # and so it is not ended twice
                if connection.unparsed_bytes:
                    connection.reject(TOO_MANY_CONNECTIONS)
                else:
                    connection.transport.close()
                return True
            connection._mark_active()
        return False

    def _is_idle(self) -> bool:
        """Whether no request is in progress, nor a response on its way. A head that is arriving does not count."""
        is_done = self.cycle is None or self.cycle.response_complete
        return is_done and not self.transport.get_write_buffer_size()

    def _mark_active(self) -> None:
        if self in self.by_activity:
            self.by_activity.move_to_end(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.timer.cancel()
        self.by_activity.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.held:  # these were on their way when reading was paused
            self.held += data
        else:
            self._parse(data)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio takes it for whether the transport stays open
        """Answer a client that has closed its half of the connection, unless it has left in the middle of something.

        For a table this counts as leaving: its work would go on for nobody.
        """
        self.is_half_closed = True
        return bool(self.held) or self._ends_with_last_response()

    def _ends_with_last_response(self) -> bool:
        """Whether there is a response to wait for; if so, close the connection after it."""
        cycle = self.cycle
        is_pending = cycle is not None and not cycle.response_complete and not cycle.more_body
        if not is_pending or SLOW_CLIENT_EXEMPT in cycle.scope:
            return False
        cycle.keep_alive = False
        return True

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()  # Uvicorn reads on, and what waits would grow without bound
        elif held := self.held:
            self.held = b""
            self._parse(held)
            if self.is_half_closed and not self.held and not self._ends_with_last_response():
                self.transport.close()

    def _parse(self, data: bytes) -> None:
        """Parse as far as there are MAX_PIPELINED requests that wait, and hold the rest."""
        while data and not self.transport.is_closing():
            rest = b""
            if data.count(HEAD_END) > MAX_PIPELINED:
                end = sum(map(len, data.split(HEAD_END, MAX_PIPELINED)[:-1])) + MAX_PIPELINED * len(HEAD_END)
                data, rest = data[:end], data[end:]
            self.unparsed_bytes += len(data)
            while data:
                self.data, self.rest = data, b""
                super().data_received(data)
                data = self.rest
            self.data = b""  # an idle connection keeps nothing
            if self.unparsed_bytes > self.max_head_bytes:
                self.reject(self._too_large())
            elif rest and self.pipeline:
                self.held = rest
                return
            data = rest

    def on_headers_complete(self) -> None:
        """Check the head's size. To reject it, raise ValueError: Uvicorn then calls `send_400_response`."""
        if self.unparsed_bytes > self.small_head_bytes:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.max_head_bytes or len(self.url) > MAX_URL_BYTES:
                self.rejection = self._too_large()
                raise ValueError
        hosts = [value for name, value in self.headers if name == b"host"]
        if hosts != self.sent_hosts:
            self._check_hosts(hosts)
        self.unparsed_bytes = 0
        if self.parser.get_http_version() == "1.0":  # which has no 100 Continue
            self.expect_100_continue = False
        super().on_headers_complete()
        self.headers = TRAILERS  # type: ignore[assignment]

    def _check_hosts(self, sent: list[bytes]) -> None:
        """Raise ValueError for a Host header that is missing, repeated (RFC 9112, section 3.2) or not accepted."""
        if len(sent) == 1:
            problem = host_problem(self.accepted_hosts, sent[0])
        else:
            problem = INVALID_HOST if sent or self.parser.get_http_version() == "1.1" else None
        if problem:
            self.rejection = problem
            raise ValueError
        self.sent_hosts = sent or None  # without one, the version decides

    def on_body(self, body: bytes) -> None:
        """Pass on a piece of a body. A body of one piece is not copied; Uvicorn would copy it twice."""
        self.unparsed_bytes = 0
        if not (held := self.cycle.body):
            self.cycle.body = b""  # type: ignore[assignment]  # b"" += body copies nothing
        elif isinstance(held, bytes):
            self.cycle.body = bytearray(held)
        super().on_body(body)

    def send_400_response(self, _msg: str) -> None:
        """Respond to bytes that are not HTTP, or to a head that `on_headers_complete` rejected."""
        self.reject(self.rejection)

    def reject(self, problem: Problem) -> None:
        """Respond with a problem if the client can take it as the response to its last request, and close.

        After a complete request the invalid bytes belong to the next one. The complete one gets its response; the
        next one gets this one if the other has been sent already, else none.
        """
        cycle = self.cycle
        is_pending = cycle is not None and not cycle.response_complete
        if is_pending and not cycle.more_body:
            cycle.keep_alive = False  # Uvicorn closes the connection after its response
            self.flow.pause_reading()
            return
        if not (is_pending and (cycle.response_started or self.pipeline)) and not self.transport.is_closing():
            response = ProblemResponse(problem)
            headers = *self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")
            lines = b"".join(b"%b: %b\r\n" % header for header in headers)
            self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[problem.status], lines, bytes(response.body)))
        self.transport.close()

    def poll(self) -> None:
        """Close the connection if its client has neither sent nor read anything for too long."""
        self.timer = self.loop.call_later(self.poll_seconds, self.poll)
        cycle = self.cycle
        is_done = cycle is None or cycle.response_complete
        is_exempt = not is_done and not self.transport.is_closing() and SLOW_CLIENT_EXEMPT in cycle.scope
        unsent = self.transport.get_write_buffer_size()
        is_blocked = unsent and unsent >= self.unsent_bytes and not is_exempt
        is_idle = (is_done or (cycle.more_body and not is_exempt)) and self.polled_request == (cycle, is_done)
        if self.polled_request not in (None, (cycle, is_done)):
            self._mark_active()
        self.blocked_polls = self.blocked_polls + 1 if is_blocked else 0
        self.idle_polls = self.idle_polls + 1 if is_idle else 0
        self.polled_request, self.unsent_bytes = (cycle, is_done), unsent
        if self.blocked_polls > MAX_IDLE_POLLS:
            self.transport.abort()  # close() would wait for the client to read
        elif self.idle_polls >= MAX_IDLE_POLLS and (self.unparsed_bytes or not is_done):
            self.reject(SLOW_REQUEST)
        elif self.idle_polls >= MAX_IDLE_POLLS:
            self.transport.close()  # no request has begun, so none gets a response

    def _too_large(self) -> Problem:
        if len(self.url) > MAX_URL_BYTES:
            return Problem(HTTPStatus.REQUEST_URI_TOO_LONG, f"The URL is longer than {MAX_URL_BYTES} bytes.")
        detail = f"The head of the request is larger than {self.max_head_bytes} bytes."
        return Problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)

    def _unsupported_upgrade_warning(self) -> None:
        """Ignore an Upgrade header (RFC 9110, section 7.8), which Java's HTTP client sends with every request.

        httptools stops after such a head, because another protocol may follow. A new parser, which has not seen the
        header, continues there with the body and the requests after it.
        """
        error = sys.exception()
        assert error
        self.rest = self.data[error.args[0] :]
        cycle = self.cycle
        cycle.more_body = True  # httptools has just reported a request without a body
        cycle.message_event.clear()
        self.parser = HttpRequestParser(_AfterHead(self))
        framing = b"".join(b"%b: %b\r\n" % header for header in cycle.scope["headers"] if header[0] in FRAMING)
        self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % framing)


class _AfterHead:
    """Callbacks for a parser that is first fed a substitute head: they ignore that head and forward everything else."""

    def __init__(self, protocol: LimitedHttpProtocol) -> None:
        self.protocol = protocol
        self.is_past_head = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.protocol, name)

    def on_message_begin(self) -> None:
        if self.is_past_head:
            self.protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self.is_past_head:
            self.protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.is_past_head:
            self.protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.is_past_head:
            self.protocol.on_headers_complete()
        self.is_past_head = True
