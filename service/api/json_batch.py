"""A JSON array of records -> their answers, in parts, so that probes and single records are served in between."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus

import msgspec
import numpy as np
import pydantic_core
from msgspec.structs import astuple
from numpy.typing import NDArray
from pydantic import ValidationError

from patient.encoding import as_array, as_rows
from patient.record import FIELDS, PatientRecord, measurements
from patient.table import refused
from service.api.state import State
from service.http import body
from service.http.body import Location, invalid, words
from service.http.problems import LISTED, Problem, no_probability
from service.observe.request_context import scored
from service.records.decoding import NUMBERS
from service.records.results import NOTHING, Answer, names, odd, rounded

PART = 1000  # records that are worked on in one turn of the event loop: some 2 ms
BAD_PART = 50  # of those that Pydantic judges, which takes up to 130 us each
TURNS = 6  # of the loop between two parts: a single record that has come is read, run and answered in five


async def answer(state: State, content: bytes) -> bytes:
    """The answers to a JSON array, in order, as JSON. Raises Problem 400, 413, 422 or 503."""
    async with state.turns:
        model = state.ready_model()  # one for all parts: no answer mixes two
        values = await read(content, state.settings.max_rows, STREAMS)
        predictions: list[bytes] = []
        for start in range(0, len(values), PART):
            part = values[start : start + PART]
            rows = part.astype(np.float32, order="C")
            probabilities = rounded(model(rows))
            if (none := odd(probabilities)).any():
                raise no_probability((start + np.flatnonzero(none)).tolist())
            predictions.append(msgspec.json.encode(_answers(part, probabilities, model.metadata.threshold))[1:-1])
            state.counts.ran("batch", len(part))
            state.counts.saw(model, [rows.tobytes()], probabilities.tolist())
            await others()
    scored(len(values), model.version)
    head = f'{{"model_version":"{model.version}","threshold":{model.metadata.threshold!r},"predictions":['
    return b"".join((head.encode(), b",".join(predictions), b"]}"))


async def read(content: bytes, limit: int, advice: str) -> NDArray[np.float64]:
    """float64[N,13], NaN = missing, of a JSON array of records.

    Raises Problem 400 or 422, and 413 above `limit` records, with `advice` what to do then.
    """
    values = await _sieve(content, limit, advice)
    return await _verdict(content, limit, advice) if values is None else values


async def _sieve(content: bytes, limit: int, advice: str) -> NDArray[np.float64] | None:
    """float64[N,13], NaN = missing, of an array of records; None if they are not all plain records of numbers.

    Raises Problem for values that PatientRecord refuses; a test holds that it is the one that Pydantic would be.
    """
    try:
        rows = NUMBERS.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    _check_length(len(rows), limit, advice)
    values = np.empty((len(rows), len(FIELDS)), order="F")
    for start in range(0, len(rows), PART):
        values[start : start + PART] = as_array(map(astuple, rows[start : start + PART]))
        await others()
    if content.count(b":") != len(rows) * len(FIELDS):
        return None
    cells = np.argwhere(refused(values))
    if len(cells):
        listed = [((row, FIELDS[i]), measurements()[i].expected) for row, i in cells[:LISTED].tolist()]
        fields = dict(zip(FIELDS, np.bincount(cells[:, 1], minlength=len(FIELDS)).tolist(), strict=True))
        raise invalid(listed, len(cells), fields)
    return values


async def _verdict(content: bytes, limit: int, advice: str) -> NDArray[np.float64]:
    """What Pydantic says of an array that the sieve held back: its values, or the Problem that names what is wrong."""
    try:
        rows = pydantic_core.from_json(content, allow_inf_nan=True)
    except ValueError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, f"Invalid JSON: {error}.") from None
    if not isinstance(rows, list):
        raise invalid([((), words("list_type", ()))], 1)
    _check_length(len(rows), limit, advice)
    records: list[PatientRecord] = []
    listed: list[tuple[Location, str]] = []
    fields: Counter[str] = Counter()
    for start in range(0, len(rows), BAD_PART):
        for row, value in enumerate(rows[start : start + BAD_PART], start):
            try:
                records.append(PatientRecord.model_validate(value))
            except ValidationError as error:
                faults = list(_faults(error, row))
                fields.update(body.field(location) for location, _ in faults)
                listed += faults[: LISTED - len(listed)]
        await others()
    if fields:
        raise invalid(listed, fields.total(), fields)
    if content.count(b":") != len(rows) * len(FIELDS):
        await asyncio.to_thread(body.refuse_doubled_keys, content, len(rows))  # its callbacks let other threads run
    return as_rows(records).astype(np.float64)


async def others() -> None:
    """Let the event loop do what else there is."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


def _faults(error: ValidationError, row: int) -> Iterator[tuple[Location, str]]:
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        yield (row, *fault["loc"]), words(fault["type"], fault["loc"])


def _check_length(rows: int, limit: int, advice: str) -> None:
    if not rows:
        raise invalid([((), "The batch is empty: send at least one record")], 1)
    if rows > limit:
        detail = f"The batch has {rows} records; the limit of a JSON array is {limit}. {advice}"
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


STREAMS = (
    "Send more as a stream, of any length: application/x-ndjson, text/csv or application/vnd.apache.arrow.stream;"
    " or as application/vnd.apache.parquet."
)


def _answers(values: NDArray[np.float64], probabilities: NDArray[np.float64], threshold: float) -> list[Answer]:
    """One answer a row of float64[N,13], from float64[N]."""
    gaps = np.isnan(values)
    missing = [NOTHING] * len(values)
    for row in np.flatnonzero(gaps.any(axis=1)).tolist():
        missing[row] = names(gaps[row].tobytes())
    return list(map(Answer, probabilities.tolist(), (probabilities >= threshold).tolist(), missing))
