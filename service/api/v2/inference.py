"""Run an inference request: small ones in the event loop, part by part, and large ones in a thread."""

from collections import Counter
from collections.abc import Generator
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from starlette.datastructures import Headers
from starlette.responses import Response

from patient.codebook import find_mismatch
from patient.encoding import Floats
from patient.record import FIELDS, measurements
from patient.table import invalid_cells
from service.api.json_batch import check_probabilities, in_parts, score_rows, yield_to_loop
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
from service.isolation.messages import MAX_ROWS

if TYPE_CHECKING:  # what imports pyarrow, FastAPI or the model, which start-up or a worker need not wait for
    from service.api.state import AppState
    from service.settings import Settings
    from service.tables.scoring import Scorer
    from service.tables.source import Source

HEADERS = (JSON_LENGTH_HEADER.lower(), "content-length", "content-encoding", "accept-encoding")
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
    """One inference request. Raises Problem 400 and 415.

    json_bytes: length of the JSON if binary tensors follow it; body_bytes: length of the body if it was announced;
    encoding: how the body is compressed; scored_rows, version: known with the response
    """

    def __init__(self, headers: Headers, settings: "Settings") -> None:
        self.settings = settings
        self.json_bytes, self.body_bytes = _length(headers, JSON_LENGTH_HEADER), _length(headers, "Content-Length")
        self.encoding, self.accept_encoding = content_encoding(headers), headers.get("accept-encoding", "")
        self.max_bytes = self.settings.max_body + (0 if self.json_bytes is None else self.settings.max_part)
        self.scored_rows, self.version = 0, ""

    def needs_worker(self) -> bool:
        """Whether the body may be too large for the event loop. Raises Problem 413."""
        max_body = self.settings.max_body
        if (self.body_bytes or 0) > self.max_bytes or (self.json_bytes or 0) > max_body:
            raise body_too_large(self.max_bytes)
        if self.encoding:
            return True
        return self.json_bytes is not None and (self.body_bytes is None or self.body_bytes > max_body)

    async def run_in_loop(self, content: bytes, state: "AppState", client: str) -> Response:
        """Return the response to a body. Raises Problem and NoProbability."""
        async with nullcontext() if len(content) <= SMALL_BYTES else state.batches.held_by(client):
            return await self._run_in_parts(content, state)

    async def _run_in_parts(self, content: bytes, state: "AppState") -> Response:
        request, binary = self._decode(content)
        if len(content) > SMALL_BYTES:
            await yield_to_loop()
        rows = rows_of(request.inputs, binary, self.settings)
        if len(content) > SMALL_BYTES:
            await yield_to_loop()
        if len(rows) == 1:  # shares a run of the model with other single records
            for _ in check_rows(rows):
                pass
            model, probability = await state.batcher.submit(tuple(rows[0].tolist()))
            return self._respond(request, model.version, np.array([probability]))
        await in_parts(check_rows(rows))
        model, scored = state.ready_model(), []
        for start in range(0, len(rows), PART_ROWS):
            part = rows[start : start + PART_ROWS].astype(np.float32, order="C")
            probabilities = score_rows(model, part, start)
            await yield_to_loop()
            state.metrics.record_run("batch", len(part))
            state.metrics.record_scored(model, [part.tobytes()], probabilities.tolist())
            scored.append(probabilities)
        return self._respond(request, model.version, np.concatenate(scored))

    def run_in_worker(self, body: "Source", scorer: "Scorer") -> Response:
        """Return the response to a body. Raises RecordError and Problem."""
        request, binary = self._decode(self._read(body))
        rows = rows_of(request.inputs, binary, self.settings)
        for _ in check_rows(rows):
            pass
        scored = [scorer.score(_columns(rows[start : start + MAX_ROWS])) for start in range(0, len(rows), MAX_ROWS)]
        probabilities = np.concatenate(scored)
        check_probabilities(probabilities)
        return self._respond(request, scorer.version, probabilities)

    def _read(self, body: "Source") -> bytearray:
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

    def _decode(self, content: bytes | bytearray) -> tuple[InferenceRequest, memoryview]:
        """The request and the bytes behind its JSON. Raises Problem 400 and 413."""
        json_bytes = len(content) if self.json_bytes is None else self.json_bytes
        if json_bytes > self.settings.max_body:
            raise too_large(f"The JSON is larger than {self.settings.max_body} bytes.")
        if json_bytes > len(content):
            raise bad_request(f"The body ends before the JSON does: see {JSON_LENGTH_HEADER}.")
        request = decode_request(bytes(content[:json_bytes]), self.settings.max_rows)
        return request, memoryview(content)[json_bytes:]

    def _respond(self, request: InferenceRequest, version: str, probabilities: NDArray[np.float64]) -> Response:
        self.scored_rows, self.version = len(probabilities), version
        return encode_response(request, version, probabilities, self.accept_encoding)


def _columns(rows: Rows) -> Floats:
    """float32[13,n] of float[n,13]."""
    return np.ascontiguousarray(rows.T, np.float32)


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
        invalid = invalid_cells(part)  # type: ignore[arg-type]  # float32 is compared as float32, integers as such
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
