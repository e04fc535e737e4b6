"""Run an inference request: small ones in the event loop, part by part, and large ones in a thread."""

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import nullcontext

import numpy as np
from numpy.typing import NDArray
from starlette.datastructures import Headers
from starlette.responses import Response

from patient.codebook import find_mismatch
from patient.encoding import Floats
from patient.record import FIELDS, measurements
from patient.table import invalid_cells
from service.api.json_batch import in_parts, score_rows, yield_to_loop
from service.api.state import AppState
from service.api.v2.messages import (
    JSON_LENGTH_HEADER,
    InferenceRequest,
    bad_request,
    decode_request,
    encode_response,
    too_large,
)
from service.api.v2.tensors import Rows, rows_of
from service.http.body import body_too_large, content_encoding
from service.http.streams import Stream
from service.model.execution import CHUNK_ROWS
from service.observe.drift import DriftHistogram

SMALL_BYTES = 4096  # a request up to this size does not queue with the batches
PART_ROWS = 2048  # scored between two yields to the event loop: about 1 ms
READ_BYTES = 2**20
MAX_LISTED_FAULTS = 10  # fewer than elsewhere: the protocol's error is a single string


def _length(headers: Headers, name: str) -> int | None:
    values = headers.getlist(name)
    if not values:
        return None
    if len(values) > 1 or not (values[0].isascii() and values[0].isdigit() and len(values[0]) < 16):
        raise bad_request(f"{name} must be a number of bytes, and be given once.")
    return int(values[0])


class Inference:
    """One inference request and the model for all its rows. Raises Problem 400 and 415, and 503 without a model.

    json_bytes: length of the JSON if binary tensors follow it; body_bytes: length of the body if it was announced;
    encoding: how the body is compressed; response: set when `run_in_thread` has ended
    """

    def __init__(self, headers: Headers, state: AppState) -> None:
        self.settings, self.state, self.model = state.settings, state, state.ready_model()
        self.json_bytes, self.body_bytes = _length(headers, JSON_LENGTH_HEADER), _length(headers, "Content-Length")
        self.encoding, self.accept_encoding = content_encoding(headers), headers.get("accept-encoding", "")
        self.max_bytes = self.settings.max_body + (0 if self.json_bytes is None else self.settings.max_part)
        self.scored_rows = 0
        self.response: Response | None = None

    def needs_thread(self) -> bool:
        """Whether the body may be too large for the event loop. Raises Problem 413."""
        max_body = self.settings.max_body
        if (self.body_bytes or 0) > self.max_bytes or (self.json_bytes or 0) > max_body:
            raise body_too_large(self.max_bytes)
        if self.encoding:
            return True
        return self.json_bytes is not None and (self.body_bytes is None or self.body_bytes > max_body)

    async def run_in_loop(self, content: bytes) -> Response:
        """Return the response to a body. Raises Problem and NoProbability."""
        async with nullcontext() if len(content) <= SMALL_BYTES else self.state.batches:
            return await self._run_in_parts(content)

    async def _run_in_parts(self, content: bytes) -> Response:
        request, rows = self._decode(content)
        if len(content) > SMALL_BYTES:
            await yield_to_loop()
        if len(rows) == 1:  # shares a run of the model with other single records
            for _ in check_rows(rows):
                pass
            self.model, probability = await self.state.batcher.submit(tuple(rows[0].tolist()))
            return self._respond(request, np.array([probability]))
        await in_parts(check_rows(rows))
        scored = []
        for part, probabilities in self._score(rows, PART_ROWS):
            await yield_to_loop()
            self.state.metrics.record_run("batch", len(part))
            self.state.metrics.record_scored(self.model, [part.tobytes()], probabilities.tolist())
            scored.append(probabilities)
        return self._respond(request, np.concatenate(scored))

    def run_in_thread(self, body: Stream) -> Iterator[bytes]:
        """Set `response`; yields nothing. Raises RecordError, Problem and ClientDisconnected."""
        request, rows = self._decode(self._read(body))
        for _ in check_rows(rows):
            pass
        metrics, drift, scored = self.state.metrics, DriftHistogram(self.model.metadata), []
        for part, probabilities in self._score(rows, CHUNK_ROWS if self.model.crossover is None else len(rows)):
            found = drift.count(np.ascontiguousarray(part.T), probabilities)
            body.loop.call_soon_threadsafe(metrics.record_run, "batch", len(part))  # only the event loop writes metrics
            body.loop.call_soon_threadsafe(metrics.add_drift, self.model, found)
            scored.append(probabilities)
        self.response = self._respond(request, np.concatenate(scored))
        yield from ()

    def _read(self, body: Stream) -> bytearray:
        """The whole body, decompressed. Raises RecordError and Problem 413."""
        limit, read = self.max_bytes, body.read
        if self.encoding:
            from service.tables.source import Limits, open_source  # imports pyarrow, which start-up need not wait for

            read = open_source(body, self.encoding, Limits(limit, limit, ratio=self.settings.max_ratio)).read
        content = bytearray()
        while data := read(READ_BYTES):
            content += data
            if len(content) > limit:
                raise body_too_large(limit)
        return content

    def _decode(self, content: bytes | bytearray) -> tuple[InferenceRequest, Rows]:
        json_bytes = len(content) if self.json_bytes is None else self.json_bytes
        if json_bytes > self.settings.max_body:
            raise too_large(f"The JSON is larger than {self.settings.max_body} bytes.")
        if json_bytes > len(content):
            raise bad_request(f"The body ends before the JSON does: see {JSON_LENGTH_HEADER}.")
        request = decode_request(bytes(content[:json_bytes]), self.settings.max_rows * len(FIELDS))
        return request, rows_of(request.inputs, memoryview(content)[json_bytes:], self.settings)

    def _score(self, rows: Rows, size: int) -> Iterator[tuple[Floats, NDArray[np.float64]]]:
        """Score up to `size` rows a step; yield them, float32[n,13], and their probabilities. Raises NoProbability."""
        for start in range(0, len(rows), size):
            part = rows[start : start + size].astype(np.float32, order="C")
            yield part, score_rows(self.model, part, start)

    def _respond(self, request: InferenceRequest, probabilities: NDArray[np.float64]) -> Response:
        self.scored_rows = len(probabilities)
        return encode_response(request, self.model.version, probabilities, self.accept_encoding)


def check_rows(rows: Rows) -> Generator[None, None, None]:
    """Check values against PatientRecord's ranges and codes, PART_ROWS between two yields.

    Raises Problem 400, which lists the first MAX_LISTED_FAULTS, or says that these are the codes of another data set.
    """
    if len(rows) > 1 and (reason := find_mismatch(rows)):
        raise bad_request(reason)
    listed: list[str] = []
    fields: Counter[str] = Counter()  # faults per field
    for start in range(0, len(rows), PART_ROWS):
        part = np.asfortranarray(rows[start : start + PART_ROWS])
        invalid = invalid_cells(part)  # type: ignore[arg-type]  # float32 is compared as float32
        if invalid.any():
            cells = np.argwhere(invalid)
            fields.update(FIELDS[i] for i in cells[:, 1].tolist())
            for row, i in cells[: MAX_LISTED_FAULTS - len(listed)].tolist():
                listed.append(f"row {start + row}, {FIELDS[i]}: {measurements()[i].expected}")
        yield
    if total := fields.total():
        more = f"; and {total - len(listed)} more" if total > len(listed) else ""
        values = f"{total} invalid {'values' if total > 1 else 'value'} (rows count from 0, NaN is null)"
        raise bad_request(f"{values}: {'; '.join(listed)}{more}.", fields=fields)
