"""Middleware: give every request an id, count and time it by route and status, and log it.

A request is counted and logged under its route's template, never by the path, query or headers that it came with.
"""

import logging
import re
import secrets
from collections.abc import Awaitable, Iterable, Sequence
from itertools import count
from time import perf_counter, time

from fastapi import FastAPI
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.problems import CLIENT_CLOSED, INTERNAL_ERROR, ProblemResponse
from service.observe.log import AccessLog
from service.observe.metrics import CUT, MAX_ROUTES, NO_ROUTE, OTHER, STATUS, Metrics
from service.observe.request_context import CURRENT, RequestContext

REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")  # an id that is accepted from a client

_process = f"{secrets.token_hex(6)}-%x".encode()  # unique among processes
_numbers = count(1)

log = logging.getLogger(__name__)


def new_id() -> bytes:
    """An id for a request that brings none."""
    return _process % next(_numbers)


class Exchange(RequestContext):
    """A request and its response: passes ASGI messages on and measures them.

    Every request pays for it: one object, and a coroutine only where the body has no Content-Length.

    bytes_in: of the body, by Content-Length, or else as received
    """

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
        super().__init__(id_ or new_id())
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
        except Exception as error:
            log_unhandled(scope["method"], self._route(scope), error)
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
        self.metrics.record_responses(self.places[route], STATUS.get(status, OTHER) if complete else CUT, [seconds])
        if self.access_log:
            response = (scope["method"], route, status, complete, exchange.bytes_in, exchange.bytes_out)
            self.access_log([(time(), seconds, exchange.id, response, exchange.rows, exchange.version)])

    def _route(self, scope: Scope) -> str:
        templates = scope["path"], getattr(scope.get("route"), "path", NO_ROUTE)
        return next((template for template in templates if template in self.places), NO_ROUTE)


def log_unhandled(method: str, route: str, error: BaseException) -> None:
    log.error("unhandled exception in %s %s", method, route, exc_info=error)


def route_templates(app: FastAPI) -> list[str]:
    """Return the templates of an app's routes, fewer than MAX_ROUTES, in the same order in every process."""
    return list(dict.fromkeys(_paths(app.routes)))[: MAX_ROUTES - 1]


def _paths(routes: Iterable[BaseRoute]) -> Iterable[str]:
    for route in routes:
        if router := getattr(route, "original_router", None):  # how FastAPI wraps a router
            yield from _paths(router.routes)
        elif path := getattr(route, "path", None):
            yield path
