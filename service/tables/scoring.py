"""Score chunks of records: one result per row, in order, also for invalid rows."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from patient import codebook
from patient.encoding import Floats
from patient.record import FIELDS, measurements
from patient.table import invalid_in_column, is_missing, is_surely_valid
from service.records.errors import NO_PROBABILITY, FieldFault, InvalidRows, NoProbability, OtherCodebook, Tally
from service.records.results import invalid_probabilities
from service.tables.chunk import Chunk, RowFaults

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scorer:
    """A model, wherever it runs. score: rounded probabilities float64[n] of valid rows float32[13,n]"""

    version: str
    threshold: float
    score: Callable[[Floats], NDArray[np.float64]]


def result_schema(kept: pa.Schema, version: str, threshold: float, report: bool) -> pa.Schema:
    """Return the results' columns: the kept ones, then the model's; the metadata name its version and threshold."""
    results = {"probability": pa.float64(), "heart_disease": pa.bool_(), "missing": pa.list_(pa.string())}
    if report:
        results["error"] = pa.string()
    metadata = {"model_version": version, "threshold": repr(threshold)}
    return pa.schema([*kept, *(pa.field(name, kind) for name, kind in results.items())], metadata)


def score(chunks: Iterable[Chunk], scorer: Scorer, schema: pa.Schema, tally: Tally) -> Iterator[pa.RecordBatch]:
    """Return an iterator of one batch of results per chunk, in order; `tally` counts the rows read so far.

    Raises OtherCodebook at once if the first chunk looks like the table of another data set, whatever the mode; if only
    the first rows of further chunks do, it is raised after the results before them.

    With a column `error` in the result_schema, an invalid row has null results and an error, and so has a row without a
    probability. Otherwise the first invalid row ends the results: the rest is read and counted, then InvalidRows is
    raised; a row without a probability raises NoProbability.
    """
    checked = _check_codebook(chunks)
    first = next(checked, None)  # before a writer begins, so that a refused table has no output at all
    if first is None:
        return iter(())
    # The iterator of a list, not the list: it lets go of the chunk once it is scored.
    return _score_chunks(chain(iter([first]), checked), scorer, schema, tally)


def _check_codebook(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield the chunks. Raises OtherCodebook."""
    evidence = codebook.Evidence()
    for chunk in chunks:
        if reason := evidence.add(chunk.numbers):
            raise OtherCodebook(reason)
        yield chunk


def _score_chunks(chunks: Iterable[Chunk], scorer: Scorer, schema: pa.Schema, tally: Tally) -> Iterator[pa.RecordBatch]:
    report = "error" in schema.names
    for chunk in chunks:
        errors = _find_invalid(chunk, tally)
        tally.rows += len(chunk)
        if report or not tally.bad:
            yield _score_chunk(chunk, errors, scorer, schema, tally)
    if tally.bad and not report:
        raise InvalidRows(tally)


def _find_invalid(chunk: Chunk, tally: Tally) -> dict[int, str]:
    """Find and count the invalid rows of a chunk; return all faults of each as one string."""
    found: RowFaults = {row: list(faults) for row, faults in chunk.unreadable.items()}
    for field, column in zip(measurements(), chunk.numbers, strict=True):
        if is_surely_valid(field, column):
            continue
        for row in np.flatnonzero(invalid_in_column(field, column)).tolist():
            if row not in chunk.unreadable:
                found.setdefault(row, []).append(FieldFault(field.name, field.expected))
    for row in sorted(found):
        tally.add(tally.rows + row, found[row])
    return {row: " | ".join(": ".join(filter(None, fault)) for fault in faults) for row, faults in found.items()}


def _score_chunk(
    chunk: Chunk, errors: dict[int, str], scorer: Scorer, schema: pa.Schema, tally: Tally
) -> pa.RecordBatch:
    count, report = len(chunk), "error" in schema.names
    invalid: NDArray[np.bool_] | None = None  # as pyarrow's masks have it; None if all rows are valid
    if errors:
        invalid = np.zeros(count, np.bool_)
        invalid[list(errors)] = True
    columns = np.empty((len(FIELDS), count), np.float32)
    with np.errstate(over="ignore"):  # an invalid row may exceed float32
        for into, column in zip(columns, chunk.numbers, strict=True):
            into[:] = column
    probability = _probabilities(columns, invalid, scorer)
    if failed := np.flatnonzero(invalid_probabilities(probability)).tolist():
        first = tally.rows - count
        if not report:
            raise NoProbability([first + row for row in failed])
        log.error("the model has no probability for %d valid rows", len(failed))
        for row in failed:
            tally.add(first + row, [FieldFault("", NO_PROBABILITY)])
            errors[row] = NO_PROBABILITY
        invalid = np.zeros(count, np.bool_) if invalid is None else invalid
        invalid[failed], probability[failed] = True, 0
    arrays = [
        *chunk.kept.columns,
        pa.array(probability, mask=invalid),
        pa.array(probability >= scorer.threshold, mask=invalid),
        _missing(columns, invalid),
    ]
    if report:
        arrays.append(pa.array([errors.get(row) for row in range(count)] if errors else pa.nulls(count), pa.string()))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _probabilities(columns: Floats, invalid: NDArray[np.bool_] | None, scorer: Scorer) -> NDArray[np.float64]:
    """float64[n]; 0 for invalid rows."""
    if invalid is None:
        return scorer.score(columns)
    found = np.zeros(len(invalid), np.float64)
    if not invalid.all():
        found[~invalid] = scorer.score(columns[:, ~invalid])
    return found


def _missing(columns: Floats, invalid: NDArray[np.bool_] | None) -> pa.Array:
    """list<string>[n]: the fields that were not taken; null for invalid rows."""
    count = columns.shape[1]
    found = []  # row * len(FIELDS) + field of each missing value
    for i, (field, column) in enumerate(zip(measurements(), columns, strict=True)):
        if (absent := is_missing(field, column)).any():
            found.append(np.flatnonzero(absent if invalid is None else absent & ~invalid) * len(FIELDS) + i)
    places = np.sort(np.concatenate(found)) if found else np.empty(0, np.intp)
    rows, fields = np.divmod(places, len(FIELDS))
    ends = np.zeros(count + 1, np.int32)
    np.cumsum(np.bincount(rows, minlength=count).astype(np.int32), out=ends[1:])
    names = pa.array(FIELDS).take(pa.array(fields))
    return pa.ListArray.from_arrays(ends, names, mask=None if invalid is None else pa.array(invalid))
