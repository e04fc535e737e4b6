"""The synchronous client, and the client for asyncio."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from service.client.duplex import READ_BYTES
from service.client.encode import Record, Records, encode_record, encode_records
from service.client.sender import Model, Sender
from service.client.tables import OnError, Scored, Table, score
from service.client.transport import Cancellation
from service.records.schema import BatchPrediction, Explanation, Prediction, Ready, Served

LOCAL = "http://127.0.0.1:8000"
T = TypeVar("T")


class Client:
    """A client of the service, for any number of threads; it keeps connections. Close it, or use `with`.

    A prediction changes nothing, so failures are retried: connections that are refused or cut off, and responses with
    Retry-After. Pauses between attempts grow and are random.

    url: of the service; https:// needs a certificate that `context`, by default the system's, trusts
    key: API key, if the service requires one
    timeout: seconds that one attempt waits for a connection, or for the next bytes of the response
    deadline: seconds for all attempts of a call; for a table, until the last attempt begins
    retry: whether there is more than one attempt

    Every call raises ServiceError (see service/client/errors.py). `request_id` is the request's id in the service's
    log and in exceptions, up to 128 letters, digits and _.:- ; by default a random one.
    """

    def __init__(
        self,
        url: str = LOCAL,
        *,
        key: str | None = None,
        timeout: float = 10,
        deadline: float = 30,
        context: ssl.SSLContext | None = None,
        retry: bool = True,
    ) -> None:
        self._sender = Sender(url, key, timeout, deadline, context, retry)

    def predict(self, record: Record, *, request_id: str | None = None) -> Prediction:
        """Predict for one patient: a PatientRecord, a mapping with all 13 fields (None = not taken), or JSON text."""
        return self._send("/predict", encode_record(record), Prediction, request_id)

    def predict_batch(self, records: Records, *, request_id: str | None = None) -> BatchPrediction:
        """Predict for several patients, by default at most 10,000; `score` takes more.

        records: records as `predict` takes them, a data frame of pandas or polars, a table of pyarrow, or JSON text
        """
        return self._send("/predict/batch", encode_records(records), BatchPrediction, request_id)

    def explain(self, record: Record, *, request_id: str | None = None) -> Explanation:
        """Explain the prediction for one patient: the contribution of each measurement, and counterfactuals."""
        return self._send("/explain", encode_record(record), Explanation, request_id)

    def score(
        self,
        table: Table,
        *,
        kind: str | None = None,
        to: str | None = None,
        keep: str | Iterable[str] = (),
        on_error: OnError | None = None,
        request_id: str | None = None,
    ) -> Scored:
        """Score a table of any size and return the results as a file; the table is sent while the file is read.

        table: a path, a file, bytes, an iterable of bytes or of records, a data frame of pandas or polars, or a table
               of pyarrow
        kind: the table's format, such as csv, ndjson.gz or parquet; by default from the path's suffix. Records and
              frames are sent as ndjson, and `kind` must not be given
        to: the format of the results, by default the same
        keep: other columns to pass through, "*" for all
        on_error: "refuse" the table for one invalid row, which is the default for records and frames, or "report" it
                  in its place (see README, Tables)
        """
        return score(self._sender, table, kind, to, keep, on_error, request_id, Cancellation())

    def model(self, *, request_id: str | None = None) -> Served:
        """Return the metadata of the model file: fields, training data, metrics, libraries."""
        return self._send("/model", b"", Served, request_id)

    def ready(self, *, request_id: str | None = None) -> Ready:
        """Wait until the service is ready, up to the client's deadline; return its model version and provider."""
        return self._send("/health/ready", b"", Ready, request_id)

    def _send(self, path: str, content: bytes, response_type: type[Model], request_id: str | None) -> Model:
        return self._sender.send(path, content, response_type, request_id, Cancellation())

    def close(self) -> None:
        """Close the connections. The client cannot be used afterwards."""
        self._sender.pool.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient:
    """Client for asyncio: `async with`, and `await` for every call; `async with` for `score`. See Client.

    Each call runs in a thread and is cancelled with the task that awaits it.

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
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="heart-client")

    async def predict(self, record: Record, *, request_id: str | None = None) -> Prediction:
        return await self._send("/predict", encode_record(record), Prediction, request_id)

    async def predict_batch(self, records: Records, *, request_id: str | None = None) -> BatchPrediction:
        return await self._send("/predict/batch", encode_records(records), BatchPrediction, request_id)

    async def explain(self, record: Record, *, request_id: str | None = None) -> Explanation:
        return await self._send("/explain", encode_record(record), Explanation, request_id)

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
    ) -> AsyncIterator["AsyncScored"]:
        cancellation = Cancellation()
        work = partial(score, self._sender, table, kind, to, keep, on_error, request_id, cancellation)
        scored = await self._run(work, cancellation)
        try:
            yield AsyncScored(scored, self, cancellation)
        except BaseException:
            cancellation.cancel()
            raise
        finally:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, scored.close))

    async def model(self, *, request_id: str | None = None) -> Served:
        return await self._send("/model", b"", Served, request_id)

    async def ready(self, *, request_id: str | None = None) -> Ready:
        return await self._send("/health/ready", b"", Ready, request_id)

    async def _send(self, path: str, content: bytes, response_type: type[Model], request_id: str | None) -> Model:
        cancellation = Cancellation()
        work = partial(self._sender.send, path, content, response_type, request_id, cancellation)
        return await self._run(work, cancellation)

    async def _run(self, work: Callable[[], T], cancellation: Cancellation) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except asyncio.CancelledError:
            cancellation.cancel()
            raise

    async def close(self) -> None:
        self._sender.pool.close()
        await asyncio.to_thread(self._threads.shutdown)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncScored:
    """The results of a table as they arrive; see Scored."""

    def __init__(self, scored: Scored, client: AsyncClient, cancellation: Cancellation) -> None:
        self._scored, self._client, self._cancellation = scored, client, cancellation
        self.model_version, self.threshold = scored.model_version, scored.threshold
        self.content_type, self.request_id = scored.content_type, scored.request_id

    async def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, fewer only at the end; by default all."""
        return await self._client._run(partial(self._scored.read, size), self._cancellation)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self._client._run(partial(self._scored.read1, READ_BYTES), self._cancellation):
            yield data
