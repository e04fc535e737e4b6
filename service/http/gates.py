"""Long work takes turns: one works at a time, a bounded number waits."""

import asyncio
from http import HTTPStatus
from types import TracebackType

from service.http.problems import Problem
from service.observe.metrics import Counts, Gauge


class Turns:
    """A lock with a bounded queue: however many there are, the event loop meets one part of one at a time."""

    def __init__(self, limit: int, counts: Counts, what: Gauge) -> None:
        self.limit, self.counts, self.what = limit, counts, what
        self.waiting, self.lock = 0, asyncio.Lock()

    async def __aenter__(self) -> None:
        """Wait for the turn, first come first served. Raises Problem 503 when `limit` wait already."""
        if self.waiting >= self.limit:
            self.counts.overload()
            detail = f"Too many {self.what} wait."
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"})
        self._wait(1)
        try:
            await self.lock.acquire()
        finally:
            self._wait(-1)

    def _wait(self, more: int) -> None:
        self.waiting += more
        self.counts.gauge(self.what, self.waiting)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lock.release()
