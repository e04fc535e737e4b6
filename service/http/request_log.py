"""Middleware: give every request an id, count and time it by route and status, and log it.

A request is counted and logged under its route's template, never by the path, query or headers that it came with.
"""

import logging
import re
import secrets
from collections.abc import Awaitable, Iterable, Sequence
from functools import lru_cache
from itertools import count
from time import perf_counter, time

from fastapi import FastAPI
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from service.http.problems import INTERNAL_ERROR, ProblemResponse
from service.http.security_headers import DATA_HEADERS, Headers
from service.observe.log import AccessLog
from service.observe.metrics import CUT, MAX_ROUTES, NO_ROUTE, OTHER, STATUS, Metrics
from service.observe.request_context import CURRENT, RequestContext

CLIENT_CLOSED = 499  # nginx's status for a client that left before a response began
REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")  # an id that is accepted from a client

_new_id = f"{secrets.token_hex(6)}-%x".encode()  # unique among processes, and within this one
_numbers = count(1)

log = logging.getLogger(__name__)


class Exchange(RequestContext):
    """A request and its response: passes ASGI messages on and measures them.

    Every request pays for it: one object, and a coroutine only where the body has no Content-Length.

    bytes_in: of the body, by Content-Length, or else as received
    """

    __slots__ = ("bytes_in", "bytes_out", "ended", "receive", "status", "their_receive", "their_send")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.receive = self.their_receive = receive
        self.their_send = send
        self.status = self.bytes_out = 0  # until a response begins
        self.ended = False
        id_, length = b"", -1
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = int(value)
            elif name == b"x-request-id" and REQUEST_ID.fullmatch(value):
                id_ = value
        super().__init__(id_ or _new_id % next(_numbers))
        self.bytes_in = length
        if length < 0:
            self.bytes_in, self.receive = 0, self._receive_counted

    async def _receive_counted(self) -> Message:
        message = await self.their_receive()
        self.bytes_in += len(message.get("body", b""))
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Send a part of the response, adding the id to its head."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self.id)]
            message = {"type": "http.response.start", "status": self.status, "headers": headers}
        else:
            self.bytes_out += len(message.get("body", b""))
            self.ended = not message.get("more_body", False)
        return self.their_send(message)

    def send_whole(self, body: bytes) -> bool:
        """Send 200 and JSON in a single write if Uvicorn's connection is in its usual state; else return False.

        Uvicorn takes a response as two ASGI messages and checks each header with two regular expressions: 7 us of
        about 60.
        """
        cycle = getattr(self.their_send, "__self__", None)
        if type(cycle) is not RequestResponseCycle or cycle.response_started or cycle.disconnected:
            return False
        if not cycle.keep_alive or cycle.flow.write_paused or cycle.more_body:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        head = _head(tuple(cycle.default_headers))
        cycle.transport.write(b"%b%d\r\nx-request-id: %b\r\n\r\n%b" % (head, len(body), self.id, body))
        cycle.message_event.set()
        cycle.on_response()
        self.status, self.bytes_out, self.ended = 200, len(body), True
        return True


@lru_cache(2)
def _head(default_headers: Headers) -> bytes:
    """The head up to the value of content-length. The server's default headers change once a second: the date."""
    headers = (*default_headers, (b"content-type", b"application/json"), *DATA_HEADERS)
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"%b%bcontent-length: " % (STATUS_LINE[200], lines)


class RequestLogMiddleware:
    """The outermost middleware. It logs exceptions, and responds with 500 if no response has begun.

    routes: templates, fewer than MAX_ROUTES; access_log: logs each request, or None
    """

    def __init__(self, app: ASGIApp, routes: Sequence[str], metrics: Metrics, access_log: AccessLog | None) -> None:
        self.app, self.metrics, self.access_log = app, metrics, access_log
        self.places = {route: place for place, route in enumerate((NO_ROUTE, *routes))}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send)
        CURRENT.set(exchange)  # this task handles no other request
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except Exception:
            log.exception("unhandled exception in %s %s", scope["method"], self._route(scope))
            if not exchange.status:
                await ProblemResponse(INTERNAL_ERROR)(scope, exchange.receive, exchange.send)
        finally:
            self._record(scope, exchange)

    def _record(self, scope: Scope, exchange: Exchange) -> None:
        seconds = perf_counter() - exchange.began
        route = scope["path"]
        if route not in self.places:
            route = self._route(scope)
        status = exchange.status or CLIENT_CLOSED
        complete = exchange.ended or status == CLIENT_CLOSED
        self.metrics.record_response(self.places[route], STATUS.get(status, OTHER) if complete else CUT, seconds)
        if self.access_log:
            response = (scope["method"], route, status, complete, exchange.bytes_in, exchange.bytes_out)
            self.access_log((time(), seconds, exchange.id, response, exchange.rows, exchange.version))

    def _route(self, scope: Scope) -> str:
        templates = scope["path"], getattr(scope.get("route"), "path", NO_ROUTE)
        return next((template for template in templates if template in self.places), NO_ROUTE)


def route_templates(app: FastAPI) -> list[str]:
    """Return the templates of an app's routes, fewer than MAX_ROUTES, in the same order in every process."""
    return list(dict.fromkeys(_paths(app.routes)))[: MAX_ROUTES - 1]


def _paths(routes: Iterable[BaseRoute]) -> Iterable[str]:
    for route in routes:
        if router := getattr(route, "original_router", None):  # how FastAPI wraps a router
            yield from _paths(router.routes)
        elif path := getattr(route, "path", None):
            yield path
