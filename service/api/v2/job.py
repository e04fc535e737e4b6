"""One inference request, from its bytes to its answer: in the event loop part by part, or in a thread."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

import numpy as np
from starlette.datastructures import Headers
from starlette.responses import Response

from patient.record import FIELDS
from service.api.json_batch import yield_to_loop
from service.api.state import AppState
from service.api.v2 import responses
from service.api.v2.requests import Inference, decode, refused
from service.api.v2.run import Run
from service.api.v2.tensors import Source, rows
from service.http.streams import Body
from service.model.execution import CHUNK_ROWS
from service.observe.drift import DriftHistogram
from service.records.results import rounded
from service.settings import Settings

TINY = 4096  # bytes of a request that need not wait for its turn
PART = 2048  # rows that are worked on in one turn of the event loop: some 1 ms
PACKINGS = {"": None, "identity": None, "gzip": "gzip", "deflate": "deflate"}


@dataclass(frozen=True, slots=True)
class InferenceHeaders:
    """What a request's headers say.

    head: bytes of its JSON, where bytes of tensors follow; length: of the body, if it is announced; packing: how the
    body is compressed; wished: Accept-Encoding
    """

    head: int | None
    length: int | None
    packing: str | None
    wished: str

    def in_thread(self, settings: Settings) -> bool:
        """Whether the body may be more than the event loop should handle. Raises Problem 413."""
        most = settings.max_body + (0 if self.head is None else settings.max_part)
        if (self.length or 0) > most or (self.head or 0) > settings.max_body:
            raise refused(f"The body is larger than {most} bytes.", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        known = self.head is None or (self.length is not None and self.length <= settings.max_body)
        return self.packing is not None or not known


def asked(headers: Headers) -> InferenceHeaders:
    """Read the headers. Raises Problem 400 and 415."""
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in PACKINGS:
        raise refused("Content-Encoding is gzip or deflate.", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    return InferenceHeaders(
        head=_bytes(headers, responses.HEADER),
        length=_bytes(headers, "Content-Length"),
        packing=PACKINGS[encoding],
        wished=headers.get("accept-encoding", ""),
    )


def _bytes(headers: Headers, name: str) -> int | None:
    found = headers.getlist(name)
    if not found:
        return None
    if len(found) > 1 or not (found[0].isascii() and found[0].isdigit() and len(found[0]) < 16):
        raise refused(f"{name} is a number of bytes, once.")
    return int(found[0])


class Job:
    """One request, and the model that answers all of it."""

    def __init__(self, asked: InferenceHeaders, state: AppState) -> None:
        """Raises Problem 503 while there is no model."""
        self.asked, self.state, self.model = asked, state, state.ready_model()
        self.response: Response | None = None
        self.rows = 0  # that were scored

    async def in_loop(self, content: bytes) -> Response:
        """The answer to a body. Raises Problem."""
        if len(content) <= TINY:
            return await self._in_parts(content)
        async with self.state.batches:
            return await self._in_parts(content)

    async def _in_parts(self, content: bytes) -> Response:
        source = io.BytesIO(content)
        request = self._request(source)
        if len(content) > TINY:
            await yield_to_loop()
        run = Run(rows(request, source, self.state.settings), self.model)
        if len(run.rows) == 1:  # joins the single records that wait
            run.judge(run.rows)
            run.check()
            self.model, probability = await self.state.batcher.submit(tuple(run.rows[0].tolist()))
            run.probabilities = np.array([probability], np.float32)
        else:
            for seen, told in run.parts(PART):
                await yield_to_loop()
                if len(seen):
                    self.state.metrics.record_run("batch", len(seen))
                    self.state.metrics.record_scored(self.model, [seen.tobytes()], rounded(told).tolist())
        return self._answer(request, run)

    def work(self, body: Body) -> Iterator[bytes]:
        """The same in a thread; yields nothing, and leaves the answer in `response`. Raises Problem and Gone."""
        source = self._opened(body)
        request = self._request(source)
        run = Run(rows(request, source, self.state.settings), self.model)
        metrics, spread = self.state.metrics, DriftHistogram(self.model.metadata)
        for seen, told in run.parts(CHUNK_ROWS if self.model.crossover is None else len(run.rows)):
            if len(seen):  # into bins here; but the counts are the loop's alone
                found = spread.count(np.ascontiguousarray(seen.T), rounded(told))
                body.loop.call_soon_threadsafe(metrics.record_run, "batch", len(seen))
                body.loop.call_soon_threadsafe(metrics.add_drift, self.model, found)
        self.response = self._answer(request, run)
        yield from ()

    def _opened(self, body: Body) -> Source:
        if self.asked.packing is None:
            return body
        from service.api.v2.packed import Unpacked  # pyarrow takes its time

        return Unpacked(body, self.asked.packing, self.state.settings)

    def _request(self, source: Source) -> Inference:
        """The JSON at the beginning of a source."""
        settings = self.state.settings
        content = _read(source, settings.max_body if self.asked.head is None else self.asked.head)
        if self.asked.head is None and source.read(1):
            raise refused(f"The JSON is larger than {settings.max_body} bytes.", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if len(content) < (self.asked.head or 0):
            raise refused(f"The body ends before the JSON does: see {responses.HEADER}.")
        return decode(content, settings.max_rows * len(FIELDS))

    def _answer(self, request: Inference, run: Run) -> Response:
        self.rows = len(run.rows)
        return responses.response(request, self.model.version, run.probabilities, self.asked.wished)


def _read(source: Source, size: int) -> bytes:
    """Up to `size` bytes, fewer only at the end."""
    parts = []
    while size and (data := source.read(size)):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)
