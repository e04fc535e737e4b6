"""Chunks of patients -> their answers, row for row: whatever is wrong with a row, it keeps its place."""

import logging
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from patient.encoding import Floats
from patient.record import FIELDS, measurements
from patient.table import invalid, is_surely_valid
from service.model.execution import CHUNK_ROWS
from service.model.predictor import Predictor
from service.records.errors import NO_PROBABILITY, FieldFault, InvalidRows, NoProbability, Tally
from service.records.results import invalid_probabilities, rounded
from service.tables.chunk import Chunk

log = logging.getLogger(__name__)

NAMES = pa.array(FIELDS)

Seen = Callable[[Floats, NDArray[np.float64]], None]


def schema(kept: pa.Schema, model: Predictor, report: bool) -> pa.Schema:
    """The answers' columns: those that pass through, then the model's; which model it was stands in the metadata."""
    answer = {"probability": pa.float64(), "heart_disease": pa.bool_(), "missing": pa.list_(pa.string())}
    if report:
        answer["error"] = pa.string()
    said = {"model_version": model.version, "threshold": repr(model.metadata.threshold)}
    return pa.schema([*kept, *(pa.field(name, kind) for name, kind in answer.items())], said)


def score(
    chunks: Iterable[Chunk], model: Predictor, kept: pa.Schema, *, report: bool, tally: Tally, seen: Seen | None = None
) -> Iterator[pa.RecordBatch]:
    """One batch of answers a chunk, in order, while `tally` counts what goes by.

    report: a bad row answers null, with an `error`, and so does one for which the model has no probability: without
    report that is NoProbability. Otherwise the first bad row ends the answers; the rest is read and
    counted, and then Refused raised. seen: is told of the good rows, by columns, and their probabilities.
    """
    out = schema(kept, model, report)
    for chunk in chunks:
        bad = _judge(chunk, tally)
        tally.rows += len(chunk)
        if report or not tally.bad:
            yield _answer(chunk, bad, model, out, tally, seen)
    if tally.bad and not report:
        raise InvalidRows(tally)


def _judge(chunk: Chunk, tally: Tally) -> dict[int, str]:
    """Find the invalid rows of a chunk, each with everything that is wrong with it in one string; count them."""
    found: dict[int, list[FieldFault]] = {row: list(faults) for row, faults in chunk.broken.items()}
    for field, column in zip(measurements(), chunk.numbers, strict=True):
        if is_surely_valid(field, column):
            continue
        for row in np.flatnonzero(invalid(field, column)).tolist():
            if row not in chunk.broken:
                found.setdefault(row, []).append(FieldFault(field.name, field.expected))
    for row in sorted(found):
        tally.add(tally.rows + row, found[row])
    return {row: " | ".join(": ".join(filter(None, fault)) for fault in faults) for row, faults in found.items()}


def _answer(
    chunk: Chunk, bad: dict[int, str], model: Predictor, out: pa.Schema, tally: Tally, seen: Seen | None
) -> pa.RecordBatch:
    count = len(chunk)
    nothing = _rows(bad, count)
    columns = _columns(chunk)
    probability = _probabilities(columns, nothing, model)
    if (none := invalid_probabilities(probability)).any():
        bad |= _unanswered(np.flatnonzero(none).tolist(), tally, count, report="error" in out.names)
        nothing, probability = _rows(bad, count), np.where(none, 0, probability)
    if seen:
        good = slice(None) if nothing is None else ~nothing
        seen(columns[:, good], probability[good])
    arrays = [
        *chunk.kept.columns,
        pa.array(probability, mask=nothing),
        pa.array(probability >= model.metadata.threshold, mask=nothing),
        _missing(columns, nothing),
    ]
    if "error" in out.names:
        arrays.append(pa.array([bad.get(row) for row in range(count)] if bad else pa.nulls(count), pa.string()))
    return pa.RecordBatch.from_arrays(arrays, schema=out)


def _rows(bad: dict[int, str], count: int) -> NDArray[np.bool_] | None:
    """bool[count]: where there is no answer, which True is to pyarrow; None if all rows have one."""
    if not bad:
        return None
    nothing = np.zeros(count, np.bool_)
    nothing[list(bad)] = True
    return nothing


def _unanswered(rows: list[int], tally: Tally, count: int, *, report: bool) -> dict[int, str]:
    """Count valid rows of the latest `count` as invalid: the model has no probability for them. Raises NoProbability."""
    first = tally.rows - count
    if not report:
        raise NoProbability([first + row for row in rows])
    log.error("the model has no probability for %d valid rows", len(rows))
    for row in rows:
        tally.add(first + row, [FieldFault("", NO_PROBABILITY)])
    return dict.fromkeys(rows, NO_PROBABILITY)


def _columns(chunk: Chunk) -> Floats:
    """float32[13,n]: the fields one after the other, as the model takes them."""
    columns = np.empty((len(FIELDS), len(chunk)), np.float32)
    with np.errstate(over="ignore"):  # a bad row may hold what float32 cannot
        for into, column in zip(columns, chunk.numbers, strict=True):
            into[:] = column
    return columns


def _probabilities(columns: Floats, nothing: NDArray[np.bool_] | None, model: Predictor) -> NDArray[np.float64]:
    """float64[n]; 0 where there is no answer. Each run's rows are made just before it, and still in the cache."""
    count = columns.shape[1]
    found = np.zeros(count, np.float32)
    most = CHUNK_ROWS if model.crossover is None else max(count, 1)  # a GPU likes them all at once
    for start in range(0, count, most):
        part = slice(start, start + most)
        rows = np.ascontiguousarray(columns[:, part].T)
        if nothing is None:
            found[part] = model(rows)
        elif (valid := ~nothing[part]).any():
            found[part][valid] = model(rows[valid])
    return rounded(found)


def _missing(columns: Floats, nothing: NDArray[np.bool_] | None) -> pa.Array:
    """list<string>[n]: the fields that were not taken; null where there is no answer."""
    count = columns.shape[1]
    found = []  # (row, field) of each, as one number
    for i, column in enumerate(columns):
        if (absent := np.isnan(column)).any():
            found.append(np.flatnonzero(absent if nothing is None else absent & ~nothing) * len(FIELDS) + i)
    places = np.sort(np.concatenate(found)) if found else np.empty(0, np.intp)
    rows, fields = np.divmod(places, len(FIELDS))
    ends = np.zeros(count + 1, np.int32)
    np.cumsum(np.bincount(rows, minlength=count).astype(np.int32), out=ends[1:])
    names = NAMES.take(pa.array(fields))
    return pa.ListArray.from_arrays(ends, names, mask=None if nothing is None else pa.array(nothing))
