"""Encode records as JSON, whatever Python holds them in: mappings, data frames, JSON text."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Protocol, cast, runtime_checkable

from patient.record import PatientRecord
from service.client.errors import Fault, InvalidRecord

FRAME_ROWS = 10_000  # that are converted at once
NOT_TAKEN = ("NAType", "NaTType")  # names of the types of pandas' missing values


@runtime_checkable
class Frame(Protocol):
    """A data frame of pandas or polars, or a table of pyarrow: what these have in common."""

    @property
    def columns(self) -> Any: ...

    def __len__(self) -> int: ...

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...


Record = PatientRecord | Mapping[str, Any] | str | bytes
Records = Iterable[Record] | Frame | str | bytes


def encode_record(record: Record, pointer: str = "") -> bytes:
    """Encode the record at this JSON pointer; text is JSON already.

    Raises InvalidRecord for NaN and infinity, which JSON does not have, and TypeError for what is no record.
    """
    if isinstance(record, (str, bytes)):
        return record.encode() if isinstance(record, str) else record
    if isinstance(record, PatientRecord):
        return record.model_dump_json().encode()
    if not isinstance(record, Mapping):
        raise TypeError(f"a record is a mapping, a PatientRecord or JSON text, not a {type(record).__name__}")
    try:
        return json.dumps(dict(record), allow_nan=False, default=_to_python).encode()
    except ValueError:
        wrong = [name for name, value in record.items() if isinstance(value, float) and not math.isfinite(value)]
    detail = "NaN and infinity are not valid; use None if it was not taken"
    faults = tuple(Fault(f"{pointer}/{name}", detail) for name in wrong)
    raise InvalidRecord("Invalid patient record.", errors=faults, total=len(faults))


def encode_records(records: Records) -> bytes:
    """Encode a JSON array of records; text is JSON already. See encode_record."""
    if isinstance(records, (str, bytes)):
        return encode_record(records)
    if isinstance(records, Frame):
        return b"[%b]" % b",".join(encode_rows(records))
    return b"[%b]" % b",".join(encode_record(record, f"/{row}") for row, record in enumerate(records))


def encode_rows(frame: Frame) -> Iterator[bytes]:
    """Yield each row of a frame as a JSON object; missing values are null, and the index of pandas is left out."""
    for start in range(0, len(frame), FRAME_ROWS):
        for row in _rows(cast(Any, frame), start):
            yield json.dumps({name: _or_none(value) for name, value in row.items()}, default=_to_text).encode()


def _rows(frame: Any, start: int) -> list[dict[str, Any]]:
    if hasattr(frame, "to_dicts"):  # polars
        rows = frame.slice(start, FRAME_ROWS).to_dicts()
    elif hasattr(frame, "to_pylist"):  # pyarrow
        rows = frame.slice(start, FRAME_ROWS).to_pylist()
    else:  # pandas
        rows = frame.iloc[start : start + FRAME_ROWS].to_dict("records")
    return cast(list[dict[str, Any]], rows)


def _or_none(value: Any) -> Any:
    is_missing = type(value).__name__ in NOT_TAKEN or (isinstance(value, float) and math.isnan(value))
    return None if is_missing else value


def _to_python(number: Any) -> Any:
    """Convert a decimal or a numpy scalar."""
    if isinstance(number, Decimal):
        return float(number)
    try:
        return number.item()
    except (AttributeError, ValueError):
        raise TypeError(f"a measurement cannot be of type {type(number).__name__}") from None


def _to_text(value: Any) -> Any:
    """Convert a value of a frame; what is no number, such as a date of a kept column, becomes text."""
    try:
        return _to_python(value)
    except TypeError:
        return str(value)
