"""The client for asyncio: each call runs in a thread and is cancelled with the task that awaits it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from service.client import calls
from service.client.calls import Call, Record
from service.client.duplex import READ_BYTES
from service.client.sender import Sender
from service.client.sync import LOCAL
from service.client.tables import OnError, Scored, Table, TableCall, score
from service.client.transport import Cancellation
from service.records.schema import BatchPrediction, Explanation, Prediction, Ready, Served

T = TypeVar("T")


class AsyncScored:
    """The results of a table as they arrive; see Scored."""

    def __init__(self, scored: Scored, threads: "_Threads", cancellation: Cancellation) -> None:
        self._scored, self._threads, self._cancellation = scored, threads, cancellation
        self.model_version, self.threshold = scored.model_version, scored.threshold
        self.content_type, self.request_id = scored.content_type, scored.request_id

    async def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, fewer only at the end; by default all."""
        return await self._threads.run(partial(self._scored.read, size), self._cancellation)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self._threads.run(partial(self._scored.read1, READ_BYTES), self._cancellation):
            yield piece


class _Threads:
    """A thread pool whose work is cancelled with the task that awaits it."""

    def __init__(self, concurrency: int) -> None:
        self.pool = ThreadPoolExecutor(concurrency, thread_name_prefix="heart-client")

    async def run(self, work: Callable[[], T], cancellation: Cancellation) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, work)
        except asyncio.CancelledError:
            cancellation.cancel()
            raise


class AsyncClient:
    """Client for asyncio: `async with`, and `await` for every call.

    concurrency: calls that run at once; others wait
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
        self._sender = Sender(url, key, timeout, deadline, context)
        self._threads = _Threads(concurrency)

    async def _send(self, call: Call[T], request_id: str | None) -> T:
        cancellation = Cancellation()
        return await self._threads.run(partial(self._sender.send, call, request_id, cancellation), cancellation)

    async def predict(self, record: Record, *, request_id: str | None = None) -> Prediction:
        """See Client."""
        return await self._send(calls.predict(record), request_id)

    async def predict_batch(self, records: Iterable[Record], *, request_id: str | None = None) -> BatchPrediction:
        """See Client."""
        return await self._send(calls.predict_batch(records), request_id)

    async def explain(self, record: Record, *, request_id: str | None = None) -> Explanation:
        """See Client."""
        return await self._send(calls.explain(record), request_id)

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
        cancellation = Cancellation()
        call = TableCall(table, kind, to, keep, on_error)
        scored = await self._threads.run(partial(score, self._sender, call, request_id, cancellation), cancellation)
        try:
            yield AsyncScored(scored, self._threads, cancellation)
        except BaseException:
            cancellation.cancel()
            raise
        finally:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, scored.close))

    async def model(self, *, request_id: str | None = None) -> Served:
        """See Client."""
        return await self._send(calls.MODEL, request_id)

    async def ready(self, *, request_id: str | None = None) -> Ready:
        """See Client."""
        return await self._send(calls.READY, request_id)

    async def close(self) -> None:
        """Close the connections. The client cannot be used afterwards."""
        self._sender.pool.close()
        await asyncio.to_thread(self._threads.pool.shutdown)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
