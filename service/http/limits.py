"""Limits on what runs or waits at once."""

import asyncio
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.fairness import Places
from service.http.problems import Problem, ProblemResponse, busy
from service.observe.metrics import Metrics


class Gate:
    """Admits up to `limit` tasks at once; beyond that raises Problem 503, counted as an overload.

    refusal: the error's detail
    """

    def __init__(self, limit: int, refusal: str, metrics: Metrics) -> None:
        self.limit, self.refusal, self.metrics = limit, refusal, metrics
        self.inside = 0

    def __enter__(self) -> None:
        if self.inside >= self.limit:
            self.metrics.record_overload()
            raise busy(self.refusal)
        self.inside += 1

    def __exit__(self, *_: object) -> None:
        self.inside -= 1


class BoundedLock:
    """A lock for long work with a queue of places."""

    def __init__(self, queue: Places) -> None:
        self.queue, self.lock = queue, asyncio.Lock()

    @asynccontextmanager
    async def held_by(self, client: str) -> AsyncIterator[None]:
        """Wait for the lock, in the order of requests. Raises Problem 503 if no place is left in the queue."""
        with self.queue.place(client):
            await self.lock.acquire()
        try:
            yield
        finally:
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
