"""Limits on what runs or waits at once."""

import asyncio
from collections.abc import Container

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.problems import Problem, ProblemResponse, busy
from service.observe.metrics import Gauge, Metrics


class Gate:
    """Admits up to `limit` tasks at once; beyond that raises Problem 503, counted as an overload.

    refusal: the error's detail; gauge: the metric of the number admitted
    """

    def __init__(self, limit: int, refusal: str, metrics: Metrics, gauge: Gauge | None = None) -> None:
        self.limit, self.refusal, self.metrics, self.gauge = limit, refusal, metrics, gauge
        self.inside = 0

    def __enter__(self) -> None:
        if self.inside >= self.limit:
            self.metrics.record_overload()
            raise busy(self.refusal)
        self._move(1)

    def __exit__(self, *_: object) -> None:
        self._move(-1)

    def _move(self, change: int) -> None:
        self.inside += change
        if self.gauge:
            self.metrics.set_gauge(self.gauge, self.inside)


class BoundedLock:
    """A fair lock for long work, whose queue is a gate: `async with` waits for its turn, or raises Problem 503."""

    def __init__(self, queue: Gate) -> None:
        self.queue, self.lock = queue, asyncio.Lock()

    async def __aenter__(self) -> None:
        with self.queue:
            await self.lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.lock.release()


class ConcurrencyLimitMiddleware:
    """Respond with 503 beyond `limit` concurrent requests; paths in `exempt` (probes) are not limited.

    A request whose client is still sending is not counted: otherwise slow clients would exclude all others.
    """

    def __init__(self, app: ASGIApp, limit: int, metrics: Metrics, exempt: Container[str]) -> None:
        self.app, self.exempt = app, exempt
        self.gate = Gate(limit, "Too many requests at once.", metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self.exempt:
            await self.app(scope, receive, send)
            return

        async def receive_uncounted() -> Message:
            self.gate.inside -= 1
            try:
                return await receive()
            finally:
                self.gate.inside += 1

        is_complete = not getattr(getattr(receive, "__self__", None), "more_body", True)  # Uvicorn knows of most
        try:
            with self.gate:
                await self.app(scope, receive if is_complete else receive_uncounted, send)
        except Problem as problem:  # the gate's: the app handles its own
            await ProblemResponse(problem)(scope, receive, send)
