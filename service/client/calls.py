"""The service's endpoints as calls: a request, and how its response is parsed. No I/O."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from patient.record import PatientRecord
from service.client.errors import Fault, InvalidRecord
from service.records.schema import BatchPrediction, Explanation, Prediction, Ready, Served

Record = PatientRecord | Mapping[str, float | None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and the parser of its response."""

    method: str
    path: str
    content: bytes
    parse: Callable[[bytes], T]


MODEL = Call("GET", "/model", b"", Served.model_validate_json)
READY = Call("GET", "/health/ready", b"", Ready.model_validate_json)


def predict(record: Record) -> Call[Prediction]:
    """POST /predict. Raises InvalidRecord for NaN and infinity, which JSON does not have."""
    return Call("POST", "/predict", _encode(record), Prediction.model_validate_json)


def predict_batch(records: Iterable[Record]) -> Call[BatchPrediction]:
    """POST /predict/batch. Raises InvalidRecord as `predict` does."""
    content = b",".join(_encode(record, f"/{row}") for row, record in enumerate(records))
    return Call("POST", "/predict/batch", b"[%b]" % content, BatchPrediction.model_validate_json)


def explain(record: Record) -> Call[Explanation]:
    """POST /explain. Raises InvalidRecord as `predict` does."""
    return Call("POST", "/explain", _encode(record), Explanation.model_validate_json)


def _encode(record: Record, pointer: str = "") -> bytes:
    if isinstance(record, PatientRecord):
        return record.model_dump_json().encode()
    try:
        return json.dumps(dict(record), allow_nan=False, default=_to_python).encode()
    except ValueError:
        numbers = ((name, value) for name, value in record.items() if isinstance(value, float))
        wrong = [name for name, value in numbers if not math.isfinite(value)]
    detail = "NaN and infinity are not valid; use None if it was not taken"
    faults = tuple(Fault(f"{pointer}/{name}", detail) for name in wrong)
    raise InvalidRecord("Invalid patient record.", errors=faults, total=len(faults))


def _to_python(value: Any) -> Any:
    """Convert a number of numpy's."""
    try:
        return value.item()
    except (AttributeError, ValueError):
        raise TypeError(f"a measurement cannot be of type {type(value).__name__}") from None
