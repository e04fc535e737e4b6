"""Decode JSON patient records: the one decoder behind /predict, /explain, JSON batches and NDJSON tables.

msgspec decodes several times as fast as Pydantic and accepts only valid records. Records that msgspec rejects are
validated by PatientRecord, which accepts a few more, such as codes written as 1.0, and words the errors.
"""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Generator
from functools import lru_cache
from itertools import chain, islice
from typing import Annotated, Any, Literal, TypeVar

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

T = TypeVar("T")
Values = tuple[float | None, ...]  # a record's 13 values in the order of FIELDS, None = not taken

MEASUREMENTS = {field.name: field for field in measurements()}
JSON_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what msgspec raises
NO_VALUES: Values = (None,) * len(FIELDS)
MAX_NUMBER = 2.0**53  # larger integers may not fit into a float
JSON_TYPES = {str: "a string", bool: "a boolean", list: "an array", dict: "an object"}  # other than numbers
# These bound the work on JSON before it is parsed: parsing holds the GIL, and with it the event loop.
MAX_RECORD_BYTES = 2**14  # of a single record, in a batch as well: some 80 times as many as it needs
MAX_RECORD_VALUES = 20_000  # in a record of a table, with all that it keeps: parsed in 6 ms
OTHER_VALUES = 4096  # that a batch may hold beyond twice as many as its records need
PARSED_BYTES = 2**16  # of a batch that are parsed at once: up to 12 ms
SPACES = b" \t\r\n"  # of JSON
PART_ROWS = 1000  # decoded between two yields of `decode_batch`: some 2 ms
PART_BYTES = 2**13  # the same for rows that Pydantic validates, at up to 130 us for a row of 200 bytes
PART_TOKENS = 10_000  # the same for `split_array`: some 3 ms
# A string, perhaps one without an end, or a character that begins, separates or ends values. `++` keeps it linear.
TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z)|[\[\]{},]', re.DOTALL)


def _strict_type(field: Measurement) -> Any:
    value: Any = Annotated[float, msgspec.Meta(ge=field.low, le=field.high)]
    if field.codes:
        value = Literal[tuple(field.codes)]
    return value | None if field.nullable else value


def _struct(fields: list[Any], renamed: dict[str, str] | None = None) -> Any:
    return msgspec.defstruct("Record", fields, forbid_unknown_fields=True, rename=renamed, gc=False)


# Checks ranges and codes. A code written as 1.0 does not pass here, though PatientRecord accepts it.
_STRICT = msgspec.json.Decoder(_struct([(field.name, _strict_type(field)) for field in measurements()]))


@lru_cache(maxsize=4)  # a new type for each table would live until a garbage collection; of 1000 columns it has 1 MiB
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
    content = to_utf8(content)
    if count_values(content) > _most_values(max_records):
        raise TooLarge(f"The batch has more values than {_limit(max_records, advice)}")
    values = yield from _decode_numbers(content, max_records, advice)
    return (yield from _validate_all(content, max_records, advice)) if values is None else values


def count_values(content: bytes) -> int:
    """Return an upper bound of the values in JSON text, without parsing it: one follows each comma and each bracket."""
    return 1 + sum(_count(content, byte) for byte in b",[{")


def _count(content: bytes, byte: int) -> int:
    """How often a byte occurs, three times as fast as bytes.count where it occurs often."""
    return int(np.count_nonzero(np.frombuffer(content, np.uint8) == byte))


def _most_values(records: int) -> int:
    return 2 * len(FIELDS) * records + OTHER_VALUES


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


def split_array(content: bytes, max_records: int) -> Generator[None, None, list[bytes]]:
    """Split a JSON array into its records, each as JSON; beyond `max_records` there may be more, or one more.

    A generator like `decode_batch`. NaN and infinity pass: they are errors of their record. Raises MalformedJson and
    ColumnsError.
    """
    if count_values(content) <= _most_values(max_records):
        with contextlib.suppress(*JSON_ERRORS):
            return [bytes(raw) for raw in msgspec.json.decode(content, type=list[msgspec.Raw])]
    return (yield from _split_at_commas(content, max_records))


def _split_at_commas(content: bytes, max_records: int) -> Generator[None, None, list[bytes]]:
    """Split what msgspec does not: JSON with NaN, or with so many values that it would take too long at once."""
    _check_start(content)
    records: list[bytes] = []
    depth = start = end = 0
    for count, token in enumerate(TOKEN.finditer(content), 1):
        match token[0]:
            case b"[" | b"{":
                depth += 1
                if depth == 1:
                    start = token.end()
            case b"]" | b"}":
                depth -= 1
                end = token.start()
            case b"," if depth == 1:
                records.append(content[start : token.start()])
                start = token.end()
        if not depth or len(records) > max_records:
            break
        if count % PART_TOKENS == 0:
            yield
    if len(records) > max_records:
        return records
    if depth or content[end:].rstrip(SPACES) != b"]":
        raise MalformedJson("Invalid JSON: the array is damaged or cut off.")
    last = content[start:end]
    return [*records, last] if records or last.strip(SPACES) else records


def finish(work: Generator[None, None, T]) -> T:
    """Run a generator to its end, without pauses, and return its result."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


def _check_start(content: bytes) -> None:
    """Parse the start of an array, whole values only, to say where it breaks. Raises MalformedJson and ColumnsError."""
    cut = len(content) if len(content) <= PARSED_BYTES else content.rfind(b",", 0, PARSED_BYTES)
    start = content[: cut if cut >= 0 else PARSED_BYTES]
    try:
        parse(start)
    except MalformedJson as error:
        if len(start) == len(content) or "EOF while parsing" not in str(error):
            raise
    if not content.lstrip(SPACES).startswith(b"["):
        raise ColumnsError([FieldFault("", "The body must be an array of patient records")])


def validate(value: object) -> Values:
    """Validate a parsed record by PatientRecord. Raises InvalidRecord with what is wrong with it."""
    if isinstance(value, dict) and len(value) > len(FIELDS) + MAX_LISTED_ERRORS:  # most keys are unknown
        unknown = islice((key for key in value if key not in MEASUREMENTS), MAX_LISTED_ERRORS + 1)
        value = {key: value[key] for key in chain(MEASUREMENTS.keys() & value, unknown)}
    try:
        return tuple(PatientRecord.model_validate(value).__dict__.values())
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        raise InvalidRecord([_fault(fault["type"], fault["loc"], fault["input"]) for fault in faults]) from None


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


def _fault(kind: str, location: tuple[int | str, ...], sent: object) -> FieldFault:
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
    if json_type := JSON_TYPES.get(type(sent)):
        return FieldFault(name, f"{field.title} must be a JSON number, not {json_type}: {field.valid_values}")
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
    if _count(content, ord(":")) != len(records) * len(FIELDS):
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
    rows = yield from split_array(content, max_records)
    _check_length(len(rows), max_records, advice)
    records: list[Values] = []
    tally = Tally(rows=len(rows))
    unyielded_bytes = 0
    for number, row in enumerate(rows):
        try:
            records.append(_validate_row(row, number))
        except InvalidRecord as error:
            tally.add(number, error.faults)
            records.append(numbers_of(parse(row)) if len(row) <= MAX_RECORD_BYTES else NO_VALUES)
        except MalformedJson:
            _check_start(content)  # which also says where
            raise
        unyielded_bytes += len(row)
        if unyielded_bytes > PART_BYTES:
            unyielded_bytes = 0
            yield
    values = as_array(records)
    _check_codebook(values)
    if tally.bad:
        raise InvalidRows(tally)
    return values


def _check_codebook(values: NDArray[np.float64]) -> None:
    """Raise OtherCodebook if float64[N,13] look like the table of another data set."""
    if reason := find_mismatch(values):
        raise OtherCodebook(reason)


def _validate_row(row: bytes, number: int) -> Values:
    """Decode one record of an array by PatientRecord into its 13 values. Raises MalformedJson and InvalidRecord."""
    if len(row) > MAX_RECORD_BYTES:
        raise InvalidRecord([FieldFault("", f"The record is larger than {MAX_RECORD_BYTES} bytes")])
    try:
        values = validate(parse(row))
    except MalformedJson as error:
        raise MalformedJson(f"Record {number}, counted from 0: {error}") from None
    if row.count(b":") != len(FIELDS):
        raise InvalidRecord(duplicate_keys(row))
    return values


def _check_length(records: int, max_records: int, advice: str) -> None:
    if not records:
        raise ColumnsError([EMPTY_BATCH])
    if records > max_records:
        raise TooLarge(f"The batch has more than {_limit(max_records, advice)}")


def _limit(max_records: int, advice: str) -> str:
    return f"{max_records} records; the limit of a JSON array is {max_records}. {advice}"
