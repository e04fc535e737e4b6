"""Build prediction results: the one place that rounds probabilities, names missing fields and writes result JSON.

service/records/schema.py documents the same fields for OpenAPI and the client.
"""

from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from patient.encoding import Floats
from patient.record import FIELDS, measurements
from service.records.decoding import Values

DIGITS = 7  # of a probability: finer than float32 resolves near 1
SCALE = 10.0**DIGITS
NONE_MISSING = msgspec.Raw(b"[]")
BATCH_END = b"]}"
_ENCODE = msgspec.json.Encoder().encode
# Index and code of each field that has a code for "unspecified".
_UNSPECIFIED = [(i, field.unspecified) for i, field in enumerate(measurements()) if field.unspecified is not None]


class RowResult(msgspec.Struct, gc=False):
    """The result for one record of a batch."""

    probability: float
    heart_disease: bool
    missing: msgspec.Raw  # JSON


class RecordResult(RowResult, gc=False):
    threshold: float
    model_version: str


def rounded(probabilities: Floats) -> NDArray[np.float64]:
    """Round float32[N] to DIGITS, as probabilities are reported and compared with the threshold."""
    found: NDArray[np.float64] = np.rint(probabilities.astype(np.float64) * SCALE) / SCALE
    return found


def invalid_probabilities(probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Find which of float[N] are NaN or outside 0 to 1. No result may hold one."""
    found: NDArray[np.bool_] = ~((probabilities >= 0) & (probabilities <= 1))
    return found


def record_result(probability: float, values: Values, threshold: float, model_version: str) -> bytes:
    for i, code in _UNSPECIFIED:
        if values[i] == code:
            values = (*values[:i], None, *values[i + 1 :])
    missing = _names(bytes(value is None for value in values)) if None in values else NONE_MISSING
    return _ENCODE(RecordResult(probability, probability >= threshold, missing, threshold, model_version))


def batch_start(model_version: str, threshold: float) -> bytes:
    """Encode what stands before the first result of a batch; BATCH_END stands after the last."""
    return b'{"model_version":%b,"threshold":%b,"predictions":[' % (_ENCODE(model_version), repr(threshold).encode())


def row_results(values: NDArray[np.float64], probabilities: NDArray[np.float64], threshold: float) -> bytes:
    """Encode the results for float64[N,13] and their probabilities float64[N], with commas between them."""
    absent = np.isnan(values)
    for i, code in _UNSPECIFIED:
        absent[:, i] |= values[:, i] == code
    missing = [NONE_MISSING] * len(values)
    for row in np.flatnonzero(absent.any(axis=1)).tolist():
        missing[row] = _names(absent[row].tobytes())
    results = list(map(RowResult, probabilities.tolist(), (probabilities >= threshold).tolist(), missing))
    return _ENCODE(results)[1:-1]


@lru_cache(maxsize=4096)
def _names(absent: bytes) -> msgspec.Raw:
    """Encode the names of the fields whose byte is 1 as JSON."""
    return msgspec.Raw(msgspec.json.encode([name for name, gap in zip(FIELDS, absent, strict=True) if gap]))
