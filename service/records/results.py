"""What the service says of a patient, as it is written: service/schema.py documents it under the same names."""

from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from patient.encoding import Floats
from patient.record import FIELDS

DIGITS = 7  # of a probability: finer than float32 resolves near 1
SCALE = 10.0**DIGITS
NOTHING = msgspec.Raw(b"[]")
NO_PROBABILITY = "The model has no probability for this record"


class Answer(msgspec.Struct, gc=False):
    """One of many; `missing` is JSON already."""

    probability: float
    heart_disease: bool
    missing: msgspec.Raw


class Prediction(Answer, gc=False):
    """The answer to one record."""

    threshold: float
    model_version: str


def rounded(probabilities: Floats) -> NDArray[np.float64]:
    """float32[N] as it is told, and as it is held against the threshold."""
    found: NDArray[np.float64] = np.rint(probabilities.astype(np.float64) * SCALE) / SCALE
    return found


def odd(probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which of float[N] are no probabilities: NaN, or beyond 0 and 1. No answer may hold one."""
    found: NDArray[np.bool_] = ~((probabilities >= 0) & (probabilities <= 1))
    return found


@lru_cache(maxsize=4096)
def names(gaps: bytes) -> msgspec.Raw:
    """The names of the fields whose byte is 1, as JSON."""
    return msgspec.Raw(msgspec.json.encode([name for name, gap in zip(FIELDS, gaps, strict=True) if gap]))


def missing(values: tuple[Any, ...]) -> msgspec.Raw:
    """The names of the fields that are None, as JSON."""
    return names(bytes(value is None for value in values)) if None in values else NOTHING
