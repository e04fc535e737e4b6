"""What would change the answer: for each measurement that may be another one day, the nearest value that does.

A question to the model, and no more: one value is replaced, all others stay, and the model is asked again.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patient.encoding import as_array
from patient.record import Measurement, measurements
from service.model.execution import Run
from service.records.decoding import Values
from service.records.results import rounded


@dataclass(frozen=True, slots=True)
class Change:
    """With `to` in place of `value`, the model says `probability`, beyond the threshold; None: no value does that.

    low, high: the least and the greatest probability of all values tried
    """

    field: Measurement
    value: float | None
    to: float | None
    probability: float | None
    low: float
    high: float


def changes(model: Run, values: Values, heart_disease: bool, threshold: float) -> list[Change]:
    """One for each measurement that is modifiable or was not taken, in the record's order.

    Every plausible value is tried, all in one call of `model`. The nearest is that with the least distance from the
    patient's number; for codes, and where nothing was taken, that whose probability is nearest to the threshold.
    """
    tried = [
        (i, np.array([other for other in field.plausible if other != value]))
        for i, (field, value) in enumerate(zip(measurements(), values, strict=True))
        if field.modifiable or value is None
    ]
    rows = as_array([values]).astype(np.float32).repeat(sum(len(others) for _, others in tried), axis=0)
    start, parts = 0, []
    for i, others in tried:
        rows[start : start + len(others), i] = others
        parts.append(slice(start, start := start + len(others)))
    probabilities = rounded(model(rows))
    crosses = (probabilities >= threshold) != heart_disease
    return [
        _nearest(measurements()[i], values[i], others, probabilities[part], crosses[part], threshold)
        for (i, others), part in zip(tried, parts, strict=True)
    ]


def _nearest(
    field: Measurement,
    value: float | None,
    others: NDArray[np.float64],
    probabilities: NDArray[np.float64],
    crosses: NDArray[np.bool_],
    threshold: float,
) -> Change:
    """Of the values that change the answer."""
    low, high = probabilities.min().item(), probabilities.max().item()
    if not crosses.any():
        return Change(field, value, None, None, low, high)
    far = np.abs(probabilities - threshold if value is None or field.codes else others - value)
    nearest = int(np.where(crosses, far, np.inf).argmin())
    return Change(field, value, others[nearest].item(), probabilities[nearest].item(), low, high)
