"""The client for asyncio: the same calls, each in a thread of its own, and given up with the task that waits for it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from service.client import calls
from service.client.calls import Call, Record
from service.client.core import Core
from service.client.duplex import PIECE
from service.client.sync import LOCAL
from service.client.tables import Asked, OnError, Scored, Table, score
from service.client.transport import Stop
from service.records.schema import BatchPrediction, Explanation, Prediction, Ready, Served

T = TypeVar("T")


class AsyncScored:
    """The answers to a table while they come: see Scored."""

    def __init__(self, scored: Scored, run: "_Run", stop: Stop) -> None:
        self._scored, self._run, self._stop = scored, run, stop
        self.model_version, self.threshold = scored.model_version, scored.threshold
        self.content_type, self.request_id = scored.content_type, scored.request_id

    async def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, fewer only at the end; by default all."""
        return await self._run(partial(self._scored.read, size), self._stop)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Pieces, as they come."""
        while piece := await self._run(partial(self._scored.read1, PIECE), self._stop):
            yield piece


class _Run:
    """Work in a thread, which is told where nobody waits for it any more."""

    def __init__(self, threads: int) -> None:
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="heart-client")

    async def __call__(self, work: Callable[[], T], stop: Stop) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self.threads, work)
        except asyncio.CancelledError:
            stop.stop()
            raise


class AsyncClient:
    """Client for asyncio: `async with`, and `await` before every call.

    concurrency: calls that run at once, while the others wait
    """

    def __init__(
        self,
        url: str = LOCAL,
        *,
        key: str | None = None,
        timeout: float = 10,
        deadline: float = 30,
        context: ssl.SSLContext | None = None,
        concurrency: int = 16,
    ) -> None:
        self._core = Core(url, key, timeout, deadline, context)
        self._run = _Run(concurrency)

    async def _do(self, call: Call[T], request_id: str | None) -> T:
        stop = Stop()
        return await self._run(partial(self._core.do, call, request_id, stop), stop)

    async def predict(self, record: Record, *, request_id: str | None = None) -> Prediction:
        """See Client."""
        return await self._do(calls.predict(record), request_id)

    async def predict_batch(self, records: Iterable[Record], *, request_id: str | None = None) -> BatchPrediction:
        """See Client."""
        return await self._do(calls.predict_batch(records), request_id)

    async def explain(self, record: Record, *, request_id: str | None = None) -> Explanation:
        """See Client."""
        return await self._do(calls.explain(record), request_id)

    @asynccontextmanager
    async def score(
        self,
        table: Table,
        *,
        kind: str | None = None,
        to: str | None = None,
        keep: str | Iterable[str] = (),
        on_error: OnError | None = None,
        request_id: str | None = None,
    ) -> AsyncIterator[AsyncScored]:
        """See Client; for `async with`."""
        stop = Stop()
        asked = Asked(table, kind, to, keep, on_error)
        scored = await self._run(partial(score, self._core, asked, request_id, stop), stop)
        try:
            yield AsyncScored(scored, self._run, stop)
        except BaseException:
            stop.stop()
            raise
        finally:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, scored.close))

    async def model(self, *, request_id: str | None = None) -> Served:
        """See Client."""
        return await self._do(calls.MODEL, request_id)

    async def ready(self, *, request_id: str | None = None) -> Ready:
        """See Client."""
        return await self._do(calls.READY, request_id)

    async def close(self) -> None:
        """Close the connections; nothing can be asked any more."""
        self._core.pool.close()
        await asyncio.to_thread(self._run.threads.shutdown)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
