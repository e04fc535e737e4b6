"""A JSON batch gets the verdict, the words and the probabilities that Pydantic alone would give."""

import asyncio
import json
from typing import Any

import numpy as np
import pydantic_core
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from patient.codebook import find_mismatch
from patient.encoding import as_array, as_rows
from patient.record import EXAMPLE, FIELDS, PatientRecord, measurements
from service.api.json_batch import predict_array
from service.api.state import AppState
from service.http.problems import Problem, as_problem, invalid_rows_problem
from service.model.predictor import Predictor
from service.observe.metrics import OVERLOADS, ROWS, Metrics
from service.records.decoding import PART_ROWS, numbers_of, validate
from service.records.errors import (
    EMPTY_BATCH,
    ColumnsError,
    FieldFault,
    InvalidRecord,
    InvalidRows,
    MalformedJson,
    OtherCodebook,
    RecordError,
    Tally,
)
from service.settings import Settings

TITLES = {field.name: field.title for field in measurements()}
HUGE = "1" + "0" * 400
TOKENS = (
    "null true false 0 1 2 3 4 6 7 1.0 1.5 1e0 -0 -0.0 0.0 2.9999999999999999 3.0000000000000001 63 63.5 233 -5 -5.1 10"
    " 17.999999999999999 120 120.000001 1000.0000000000001 1e300 1e999 -1e999 18446744073709551616"
    f" {HUGE} {HUGE}.0 NaN Infinity"
    ' -Infinity "63" "" "nan" [] {} [1] {"a":1}'
).split()
KEYS = st.sampled_from([*FIELDS, "unknown", "a:b", "Age", ""])


def by_pydantic(content: bytes) -> list[PatientRecord]:
    """What Pydantic says, row by row. Raises RecordError."""
    try:
        rows = pydantic_core.from_json(content, allow_inf_nan=True)
    except ValueError as error:
        raise MalformedJson(f"Invalid JSON: {error}.") from None
    if not isinstance(rows, list):
        raise ColumnsError([FieldFault("", "The body must be an array of patient records")])
    if not rows:
        raise ColumnsError([EMPTY_BATCH])
    records, tally = [], Tally(rows=len(rows))
    objects: list[list[str]] = json.loads(content, object_pairs_hook=lambda pairs: [key for key, _ in pairs])
    for number, (row, keys) in enumerate(zip(rows, objects, strict=True)):
        try:
            records.append(PatientRecord.model_validate(row))
        except ValidationError:
            with pytest.raises(InvalidRecord) as invalid:
                validate(row)
            tally.add(number, invalid.value.faults)
            continue
        if doubled := [key for key in dict.fromkeys(keys) if keys.count(key) > 1]:
            tally.add(number, [FieldFault(key, f"{TITLES[key]} is given twice") for key in doubled])
    if reason := find_mismatch(as_array(map(numbers_of, rows))):
        raise OtherCodebook(reason)
    if tally.bad:
        raise InvalidRows(tally)
    return records


def outcome(content: bytes, predictor: Predictor) -> Any:
    """The result, or what the error says as HTTP reports it."""
    state = AppState(Settings(), Metrics())
    state.serve(predictor)
    try:
        return json.loads(asyncio.run(predict_array(state, content, "client")))
    except (RecordError, Problem) as error:
        return details(error)


def details(error: RecordError | Problem) -> Any:
    """An error as HTTP reports it."""
    if isinstance(error, RecordError):
        error = invalid_rows_problem(error) if isinstance(error, InvalidRows) else as_problem(error)
    return error.status, error.detail, error.errors, error.total


def expected(content: bytes, predictor: Predictor) -> Any:
    """The same by Pydantic and one run of the model."""
    try:
        records = by_pydantic(content)
    except RecordError as error:
        return details(error)
    probabilities = np.round(predictor(as_rows(records)).astype(np.float64), 7).tolist()
    return {
        "model_version": predictor.version,
        "threshold": predictor.metadata.threshold,
        "predictions": [
            {"probability": p, "heart_disease": p >= predictor.metadata.threshold, "missing": record.missing()}
            for p, record in zip(probabilities, records, strict=True)
        ],
    }


@st.composite
def arrays(draw: st.DrawFn) -> bytes:
    """JSON arrays of records, most of them whole, with some tokens, keys or whole records exchanged."""
    rows = []
    for _ in range(draw(st.integers(0, 4))):
        pairs = [(key, json.dumps(value)) for key, value in EXAMPLE.items()]
        for _ in range(draw(st.integers(0, 2))):
            at = draw(st.integers(0, len(pairs) - 1))
            match draw(st.sampled_from(["value", "value", "value", "drop", "double", "key"])):
                case "value":
                    pairs[at] = (pairs[at][0], draw(st.sampled_from(TOKENS)))
                case "drop":
                    del pairs[at]
                case "double":
                    pairs.append(pairs[at])
                case "key":
                    pairs[at] = (draw(KEYS), pairs[at][1])
        rows.append("{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in draw(st.permutations(pairs))) + "}")
    if draw(st.integers(0, 9)) == 0:
        rows.append(draw(st.sampled_from(TOKENS)))
    return f"[{','.join(rows)}]".encode()


@settings(max_examples=600, deadline=None)
@given(arrays())
@example(b"[]")
@example(b"{}")
@example(b"null")
@example(b"")
@example(b"[")
@example(b'[{"age": 63')
@example(b"[NaN]")
@example(b"\xff[]")
@example(b'["\xff"]')
@example(b"[" * 100_000)
@example(json.dumps([EXAMPLE] * 3).encode())
@example(json.dumps([{**EXAMPLE, "sex": 1.0, "ca": None}]).encode())
def test_the_fast_decoder_agrees_with_pydantic_on_results_and_errors(predictor: Predictor, content: bytes) -> None:
    """Booleans, strings, huge integers, 1.0, duplicate, missing and unknown keys, and invalid JSON."""
    assert outcome(content, predictor) == expected(content, predictor)


@pytest.mark.parametrize("rows", [1, PART_ROWS - 1, PART_ROWS, PART_ROWS + 1, 2 * PART_ROWS + 7])
def test_an_array_of_any_length_is_answered_in_order(predictor: Predictor, rows: int) -> None:
    """Across the boundaries of the parts that are scored together."""
    records = [EXAMPLE | {"age": 18 + row % 100, "ca": None if row % 3 else 1} for row in range(rows)]
    content = json.dumps(records).encode()
    assert outcome(content, predictor) == expected(content, predictor)


def test_every_bad_row_counts_and_the_first_hundred_are_listed(predictor: Predictor) -> None:
    """However many there are, and wherever the parts end."""
    records = [EXAMPLE | ({"chol": 0, "sex": 7} if row % 2 else {}) for row in range(2345)]
    status, _, errors, total = outcome(json.dumps(records).encode(), predictor)
    assert (status, total, len(errors)) == (422, 2 * 1172, 100)
    assert [errors[0].pointer, errors[1].pointer, errors[99].pointer] == ["/1/sex", "/1/chol", "/99/chol"]


def test_the_event_loop_runs_between_the_parts_of_an_array(predictor: Predictor) -> None:
    """A probe or a single record waits for a part at most, never for a whole array, valid or invalid."""
    records = [EXAMPLE] * 5000
    for content, min_yields in ((json.dumps(records), 5), (json.dumps([*records, 0]), 50)):
        state = AppState(Settings(), Metrics())
        state.serve(predictor)

        async def work(content: bytes = content.encode(), state: AppState = state) -> int:
            batch = asyncio.ensure_future(predict_array(state, content, "client"))
            count = 0
            while not batch.done():
                count += 1
                await asyncio.sleep(0)
            await asyncio.gather(batch, return_exceptions=True)
            return count

        assert asyncio.run(work()) >= min_yields


def test_one_batch_runs_at_a_time_and_beyond_the_queue_batches_get_503(predictor: Predictor) -> None:
    """One runs, `max_batches` wait, the next gets Retry-After; a cancelled batch frees its place in the queue."""
    state = AppState(Settings(max_batches=2), Metrics())
    state.serve(predictor)
    content = json.dumps([EXAMPLE] * 3000).encode()

    async def work() -> None:
        tasks = [asyncio.ensure_future(predict_array(state, content, "client")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Problem) as caught:
            await predict_array(state, content, "client")
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
        tasks[1].cancel()
        await asyncio.sleep(0)
        tasks.append(asyncio.ensure_future(predict_array(state, content, "client")))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [bytes, asyncio.CancelledError, bytes, bytes]

    asyncio.run(work())
    assert state.metrics.snapshot().total(OVERLOADS) == 1
    assert state.metrics.snapshot().total(ROWS, "batch") == 9000
