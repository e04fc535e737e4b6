"""Limits on what runs or waits at once."""

import asyncio
from types import TracebackType

from service.http.problems import busy
from service.observe.metrics import Gauge, Metrics


class Gate:
    """Admits up to `limit` at once; beyond that raises Problem 503, counted as an overload.

    refusal: the error's words; gauge: shows how many are in
    """

    def __init__(self, limit: int, refusal: str, metrics: Metrics, gauge: Gauge | None = None) -> None:
        self.limit, self.refusal, self.metrics, self.gauge = limit, refusal, metrics, gauge
        self.inside = 0

    def __enter__(self) -> None:
        if self.inside >= self.limit:
            self.metrics.record_overload()
            raise busy(self.refusal)
        self._move(1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lock.release()
