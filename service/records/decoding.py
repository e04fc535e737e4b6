"""Decode JSON patient records: the one decoder behind /predict, /explain, JSON batches and NDJSON tables.

msgspec decodes several times as fast as Pydantic and accepts only valid records. Records that msgspec rejects are
validated by PatientRecord, which accepts a few more, such as codes written as 1.0, and words the errors.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Generator
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pydantic_core
from msgspec.structs import astuple
from numpy.typing import NDArray
from pydantic import ValidationError

from patient.codebook import find_mismatch
from patient.encoding import as_array
from patient.record import FIELDS, Measurement, PatientRecord, measurements
from patient.table import invalid_cells
from service.records.errors import (
    EMPTY_BATCH,
    MAX_LISTED_ERRORS,
    ColumnsError,
    FieldFault,
    InvalidRecord,
    InvalidRows,
    MalformedJson,
    OtherCodebook,
    RowFault,
    Tally,
    TooLarge,
    shown_name,
)

Values = tuple[float | None, ...]  # a record's 13 values in the order of FIELDS, None = not taken

MEASUREMENTS = {field.name: field for field in measurements()}
JSON_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what msgspec raises
MAX_NUMBER = 2.0**53  # larger integers may not fit into a float
PART_ROWS = 1000  # decoded between two yields of `decode_batch`: some 2 ms
VALIDATED_ROWS = 50  # the same for rows that Pydantic validates, at up to 130 us each


def _strict_type(field: Measurement) -> Any:
    value: Any = Annotated[float, msgspec.Meta(ge=field.low, le=field.high)]
    if field.codes:
        value = Literal[tuple(field.codes)]
    return value | None if field.nullable else value


def _struct(fields: list[Any], renamed: dict[str, str] | None = None) -> Any:
    return msgspec.defstruct("Record", fields, forbid_unknown_fields=True, rename=renamed, gc=False)


# Checks ranges and codes. A code written as 1.0 does not pass here, though PatientRecord accepts it.
_STRICT = msgspec.json.Decoder(_struct([(field.name, _strict_type(field)) for field in measurements()]))


@lru_cache(maxsize=64)  # a new type for each table would live until a garbage collection, which is rare
def numbers_type(kept: tuple[str, ...] = ()) -> Any:
    """A msgspec struct of 13 unchecked numbers or nulls, and the raw JSON of other fields as kept_0, kept_1, ..."""
    fields: list[Any] = [(name, float | None) for name in FIELDS]
    fields += [(f"kept_{i}", msgspec.Raw, msgspec.Raw()) for i in range(len(kept))]
    return _struct(fields, {f"kept_{i}": name for i, name in enumerate(kept)})


_NUMBERS = msgspec.json.Decoder(list[numbers_type()])  # type: ignore[misc]  # a class made at run time


def decode_record(body: bytes) -> Values:
    """Decode a JSON object into its 13 values. Raises MalformedJson and InvalidRecord."""
    try:
        values: Values = astuple(_STRICT.decode(body))
    except JSON_ERRORS:
        body = to_utf8(body)
        values = validate(parse(body))
    if body.count(b":") != len(FIELDS):  # a valid record holds no string, so every colon ends a key
        raise InvalidRecord(duplicate_keys(body))
    return values


def decode_batch(content: bytes, max_records: int, advice: str) -> Generator[None, None, NDArray[np.float64]]:
    """Decode a JSON array of records into float64[N,13], NaN = not taken.

    A generator, so that the event loop can do other work whenever it yields; its return value is the result. Raises
    MalformedJson, InvalidRows, ColumnsError, and TooLarge above `max_records`, with `advice` on what to do instead.
    """
    values = yield from _decode_numbers(content, max_records, advice)
    return (yield from _validate_all(to_utf8(content), max_records, advice)) if values is None else values


def to_utf8(content: bytes) -> bytes:
    """Return JSON as UTF-8 without a byte order mark, from UTF-8, UTF-16 or UTF-32; what is neither, as it is."""
    encoding = json.detect_encoding(content)
    with contextlib.suppress(UnicodeError):
        return content if encoding == "utf-8" else content.decode(encoding).encode()
    return content


def parse(text: bytes) -> object:
    """Parse JSON. NaN and infinity pass: PatientRecord names the field. Raises MalformedJson."""
    try:
        return pydantic_core.from_json(text, allow_inf_nan=True)
    except ValueError as error:
        raise MalformedJson(f"Invalid JSON: {error}.") from None


def split_array(content: bytes) -> list[bytes]:
    """Split a JSON array into its records, each as JSON. Raises MalformedJson and ColumnsError."""
    try:
        return [bytes(raw) for raw in msgspec.json.decode(content, type=list[msgspec.Raw])]
    except JSON_ERRORS:  # NaN and infinity pass: the table decoder names the field
        return [json.dumps(record).encode() for record in _parse_array(to_utf8(content))]


def _parse_array(content: bytes) -> list[object]:
    records = parse(content)
    if not isinstance(records, list):
        raise ColumnsError([FieldFault("", "The body must be an array of patient records")])
    return records


def validate(value: object) -> Values:
    """Validate a parsed record by PatientRecord. Raises InvalidRecord with everything that is wrong with it."""
    try:
        return tuple(PatientRecord.model_validate(value).__dict__.values())
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidRecord([_fault(fault["type"], fault["loc"]) for fault in faults]) from None


def numbers_of(value: object) -> Values:
    """Return the 13 values of a parsed record that may be invalid: None where there is no number, or a huge one."""
    found = value if isinstance(value, dict) else {}
    cells: list[Any] = [found.get(name) for name in FIELDS]
    return tuple(cell if type(cell) in (int, float) and abs(cell) < MAX_NUMBER else None for cell in cells)


def duplicate_keys(record: bytes) -> list[FieldFault]:
    """Find the keys that occur twice in a JSON object: parsers silently take the last one."""
    return _given_twice(json.loads(record, object_pairs_hook=_keys))


def _keys(pairs: list[tuple[str, object]]) -> list[str]:
    return [key for key, _ in pairs]


def _given_twice(keys: list[str]) -> list[FieldFault]:
    doubled = [key for key, count in Counter(keys).items() if count > 1]
    titles = [MEASUREMENTS[key].title if key in MEASUREMENTS else "The column" for key in doubled]
    return [FieldFault(shown_name(key), f"{title} is given twice") for key, title in zip(doubled, titles, strict=True)]


def _fault(kind: str, location: tuple[int | str, ...]) -> FieldFault:
    """Pydantic's kind of error in the record's own words, without the value that was sent."""
    name = location[-1] if location else None
    if not isinstance(name, str):
        return FieldFault("", f"A patient record must be an object with the fields {', '.join(FIELDS)}")
    if kind == "extra_forbidden":
        return FieldFault(shown_name(name), "Not a field of a patient record")
    field = MEASUREMENTS[name]
    if kind == "missing":
        hint = "; send null if it was not taken" if field.nullable else ""
        return FieldFault(name, f"{field.title} is missing{hint}")
    return FieldFault(name, field.expected)


def _decode_numbers(content: bytes, max_records: int, advice: str) -> Generator[None, None, NDArray[np.float64] | None]:
    """float64[N,13]; None where the array is not one of plain records of numbers, or a key may occur twice."""
    try:
        records = _NUMBERS.decode(content)
    except JSON_ERRORS:
        return None
    _check_length(len(records), max_records, advice)
    values = np.empty((len(records), len(FIELDS)), order="F")
    for start in range(0, len(records), PART_ROWS):
        values[start : start + PART_ROWS] = as_array(map(astuple, records[start : start + PART_ROWS]))
        yield
    if content.count(b":") != len(records) * len(FIELDS):
        return None
    _check_codebook(values)
    invalid = invalid_cells(values)
    if len(cells := np.argwhere(invalid)):
        listed = [RowFault(row, FIELDS[i], measurements()[i].expected) for row, i in cells[:MAX_LISTED_ERRORS].tolist()]
        fields = Counter(dict(zip(FIELDS, invalid.sum(axis=0).tolist(), strict=True)))
        raise InvalidRows(Tally(len(values), int(invalid.any(axis=1).sum()), len(cells), listed, fields))
    return values


def _validate_all(content: bytes, max_records: int, advice: str) -> Generator[None, None, NDArray[np.float64]]:
    """float64[N,13] as PatientRecord validates each record."""
    rows = _parse_array(content)
    _check_length(len(rows), max_records, advice)
    records: list[Values] = []
    tally = Tally(rows=len(rows))
    for row, value in enumerate(rows):
        try:
            records.append(validate(value))
        except InvalidRecord as error:
            tally.add(row, error.faults)
            records.append(numbers_of(value))
        if row % VALIDATED_ROWS == 0:
            yield
    values = as_array(records)
    _check_codebook(values)
    if not tally.bad and content.count(b":") != len(rows) * len(FIELDS):
        for row, keys in enumerate(json.loads(content, object_pairs_hook=_keys)):
            if faults := _given_twice(keys):
                tally.add(row, faults)
            if row % VALIDATED_ROWS == 0:
                yield
    if tally.bad:
        raise InvalidRows(tally)
    return values


def _check_codebook(values: NDArray[np.float64]) -> None:
    """Raise OtherCodebook if float64[N,13] look like the table of another data set."""
    if reason := find_mismatch(values):
        raise OtherCodebook(reason)


def _check_length(records: int, max_records: int, advice: str) -> None:
    if not records:
        raise ColumnsError([EMPTY_BATCH])
    if records > max_records:
        raise TooLarge(f"The batch has {records} records; the limit of a JSON array is {max_records}. {advice}")
