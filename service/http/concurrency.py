"""Middleware: bound the number of requests that are worked on at once."""

from collections.abc import Container

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.gates import Gate
from service.http.problems import Problem, ProblemResponse
from service.observe.metrics import Metrics


class ConcurrencyLimitMiddleware:
    """Answer 503 beyond `limit` requests; paths in `exempt` (probes) always pass.

    A request that waits for its client to send counts as none: a thousand slow clients would keep all others out.
    """

    def __init__(self, app: ASGIApp, limit: int, metrics: Metrics, exempt: Container[str]) -> None:
        self.app, self.exempt = app, exempt
        self.gate = Gate(limit, "Too many requests at once.", metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self.exempt:
            await self.app(scope, receive, send)
            return

        async def receive_outside() -> Message:
            self.gate.inside -= 1
            try:
                return await receive()
            finally:
                self.gate.inside += 1

        is_complete = not getattr(getattr(receive, "__self__", None), "more_body", True)  # Uvicorn knows of most
        try:
            with self.gate:
                await self.app(scope, receive if is_complete else receive_outside, send)
        except Problem as problem:  # the gate's: the app handles its own
            await ProblemResponse(problem)(scope, receive, send)
