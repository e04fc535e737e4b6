"""Score a JSON array of records in the event loop, in parts, so that other requests are served in between."""

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.types import Receive, Scope

from patient.encoding import Floats
from service.http.body import read_json
from service.http.fairness import client_of
from service.http.problems import invalid_rows_problem
from service.observe.request_context import record_scored
from service.records.decoding import PART_ROWS, decode_batch
from service.records.errors import InvalidRows, NoProbability
from service.records.results import BATCH_END, batch_start, invalid_probabilities, rounded, row_results

if TYPE_CHECKING:
    from service.api.state import AppState
    from service.model.predictor import Predictor

T = TypeVar("T")

STREAMING = (
    "Send more as a stream, of any length: application/x-ndjson, text/csv or application/vnd.apache.arrow.stream;"
    " or as application/vnd.apache.parquet."
)
YIELDS = 6  # event loop iterations between two parts; a single record needs five


async def predict_batch(state: "AppState", scope: Scope, receive: Receive) -> bytes:
    return await predict_array(state, await read_json(scope, receive, state.settings.max_body), client_of(scope))


async def predict_array(state: "AppState", content: bytes, client: str) -> bytes:
    """The results for a JSON array of records, in order, as JSON. Raises RecordError and Problem."""
    async with state.batches.held_by(client):
        model = state.ready_model()  # once: no response mixes two models
        threshold = model.metadata.threshold
        try:
            values = await in_parts(decode_batch(content, state.settings.max_rows, STREAMING))
        except InvalidRows as error:
            raise invalid_rows_problem(error) from None
        results: list[bytes] = []
        for start in range(0, len(values), PART_ROWS):
            part = values[start : start + PART_ROWS]
            rows = part.astype(np.float32, order="C")
            probabilities = score_rows(model, rows, start)
            results.append(row_results(part, probabilities, threshold))
            state.metrics.record_run("batch", len(part))
            state.metrics.record_scored(model, [rows.tobytes()], probabilities.tolist())
            await yield_to_loop()
    record_scored(len(values), model.version)
    return b"".join((batch_start(model.version, threshold), b",".join(results), BATCH_END))


def score_rows(model: "Predictor", rows: Floats, first_row: int) -> NDArray[np.float64]:
    """Return rounded probabilities float64[n] of float32[n,13]. Raises NoProbability, counting from `first_row`."""
    probabilities = rounded(model(rows))
    check_probabilities(probabilities, first_row)
    return probabilities


def check_probabilities(probabilities: NDArray[np.float64], first_row: int = 0) -> None:
    """Raise NoProbability for rows with an invalid probability, counting from `first_row`."""
    if (invalid := invalid_probabilities(probabilities)).any():
        raise NoProbability((first_row + np.flatnonzero(invalid)).tolist())


async def in_parts(work: Generator[None, None, T]) -> T:
    """Run a generator in the event loop and return its result; at each of its yields the loop does other work first."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result
        await yield_to_loop()


async def yield_to_loop() -> None:
    for _ in range(YIELDS):
        await asyncio.sleep(0)
