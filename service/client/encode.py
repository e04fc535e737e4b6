"""Encode records as JSON."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from patient.record import PatientRecord
from service.client.errors import Fault, InvalidRecord

Record = PatientRecord | Mapping[str, float | None]


def encode_record(record: Record, pointer: str = "") -> bytes:
    """Encode the record at this JSON pointer. Raises InvalidRecord for NaN and infinity, which JSON does not have."""
    if isinstance(record, PatientRecord):
        return record.model_dump_json().encode()
    try:
        return json.dumps(dict(record), allow_nan=False, default=_to_python).encode()
    except ValueError:
        wrong = [name for name, value in record.items() if isinstance(value, float) and not math.isfinite(value)]
    detail = "NaN and infinity are not valid; use None if it was not taken"
    faults = tuple(Fault(f"{pointer}/{name}", detail) for name in wrong)
    raise InvalidRecord("Invalid patient record.", errors=faults, total=len(faults))


def encode_records(records: Iterable[Record]) -> bytes:
    """Encode a JSON array of records."""
    return b"[%b]" % b",".join(encode_record(record, f"/{row}") for row, record in enumerate(records))


def _to_python(number: Any) -> Any:
    """Convert a numpy scalar."""
    try:
        return number.item()
    except (AttributeError, ValueError):
        raise TypeError(f"a measurement cannot be of type {type(number).__name__}") from None
