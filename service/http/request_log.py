"""The outermost layer: every request gets an id, is counted and timed by route and status, and is a line in the log.

A request's path, query and headers are its client's words: only the route's template is ever told of them.
"""

import logging
from collections.abc import Iterable
from http import HTTPStatus
from time import perf_counter, time

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.state import State
from service.http.problems import Problem, response
from service.observe import log
from service.observe.metrics import CUT, OTHER, ROUTES, STATUS
from service.observe.request_context import CURRENT, Request

GONE = 499  # nginx's word for a client that left before an answer began
ELSEWHERE = "other"

logger = logging.getLogger(__name__)


class Watch:
    """`app`, watched. Nothing that it raises goes further: it is logged, and answered by 500 if that can still be."""

    def __init__(self, app: ASGIApp, state: State, lines: log.Lines | None) -> None:
        self.app, self.counts, self.lines = app, state.counts, lines
        self.places = {route: place for place, route in enumerate(state.routes)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection event."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        CURRENT.set(request)  # of this task, which is the request's own
        try:
            await self.app(scope, request.receive, request.send)
        except Exception:
            logger.exception("fault in %s %s", scope["method"], self._route(scope)[1])
            if not request.status:
                fault = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "A fault of the service; it has been logged.")
                await response(fault)(scope, request.receive, request.send)
        finally:
            self._ended(scope, request)

    def _ended(self, scope: Scope, request: Request) -> None:
        seconds = perf_counter() - request.began
        route = scope["path"]
        place = self.places.get(route)
        if place is None:
            place, route = self._route(scope)
        status = request.status or GONE
        whole = request.ended or status == GONE
        self.counts.answered(place, STATUS.get(status, OTHER) if whole else CUT, seconds)
        if self.lines:
            what = (scope["method"], route, status, whole, request.bytes_in, request.bytes_out)
            line = (time(), seconds, request.id, what, request.rows, request.version)
            if not self.lines.put(line):
                self.counts.dropped(self.lines.dropped)

    def _route(self, scope: Scope) -> tuple[int, str]:
        """The place and the template of a request's route, as far as one was found."""
        path: str = scope["path"]
        if path in self.places:
            return self.places[path], path
        path = getattr(scope.get("route"), "path", ELSEWHERE)
        return (self.places[path], path) if path in self.places else (ROUTES - 1, ELSEWHERE)


def routes(app: FastAPI) -> list[str]:
    """The templates of an app's routes, less than ROUTES: the same in every process, in the same order."""
    found = dict.fromkeys(_paths(app.routes))
    return [path for path in found if isinstance(path, str)][: ROUTES - 1]


def _paths(them: Iterable[object]) -> Iterable[object]:
    for route in them:
        if router := getattr(route, "original_router", None):  # FastAPI's own wrapping of a router
            yield from _paths(router.routes)
        else:
            yield getattr(route, "path", None)
