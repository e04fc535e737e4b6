"""What can be asked, as requests, and what their answers are; nothing here speaks to anybody."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from patient.record import PatientRecord
from service.client.errors import Fault, InvalidRecord
from service.records.schema import BatchPrediction, Explanation, Prediction, Ready, Served

Record = PatientRecord | Mapping[str, float | None]
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and how its answer is read."""

    method: str
    path: str
    content: bytes
    read: Callable[[bytes], T]


def predict(record: Record) -> Call[Prediction]:
    """POST /predict. Raises InvalidRecord for what JSON cannot say."""
    return Call("POST", "/predict", _json(record), _model(Prediction))


def predict_batch(records: Iterable[Record]) -> Call[BatchPrediction]:
    """POST /predict/batch. Raises InvalidRecord for what JSON cannot say."""
    content = b",".join(_json(record, f"/{row}") for row, record in enumerate(records))
    return Call("POST", "/predict/batch", b"[%b]" % content, _model(BatchPrediction))


def explain(record: Record) -> Call[Explanation]:
    """POST /explain. Raises InvalidRecord for what JSON cannot say."""
    return Call("POST", "/explain", _json(record), _model(Explanation))


MODEL: Call[Served]
READY: Call[Ready]


def _model(model: type[M]) -> Callable[[bytes], M]:
    return model.model_validate_json


MODEL = Call("GET", "/model", b"", _model(Served))
READY = Call("GET", "/health/ready", b"", _model(Ready))


def _json(record: Record, row: str = "") -> bytes:
    if isinstance(record, PatientRecord):
        return record.model_dump_json().encode()
    try:
        return json.dumps(dict(record), allow_nan=False, default=_plain).encode()
    except ValueError:
        numbers = ((name, value) for name, value in record.items() if isinstance(value, float))
        wrong = [name for name, value in numbers if not math.isfinite(value)]
    detail = "Neither NaN nor infinity is a measurement; None if it was not taken"
    faults = tuple(Fault(f"{row}/{name}", detail) for name in wrong)
    raise InvalidRecord("Not a valid patient record.", errors=faults, total=len(faults))


def _plain(value: Any) -> Any:
    """A number of numpy's as one of Python's."""
    try:
        return value.item()
    except (AttributeError, ValueError):
        raise TypeError(f"a {type(value).__name__} is no measurement") from None
