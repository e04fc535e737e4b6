"""Find counterfactuals: for each modifiable or missing measurement, the nearest value with the opposite result.

They describe the model, not the patient: one value is replaced, all others stay, and the model predicts again.
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
class Counterfactual:
    """With `new_value` in place of `value` the model predicts `probability`, on the other side of the threshold.

    new_value, probability: None if no plausible value has the opposite result
    low, high: the lowest and highest probability of all values tried
    """

    field: Measurement
    value: float | None
    new_value: float | None
    probability: float | None
    low: float
    high: float


def find_counterfactuals(model: Run, values: Values, heart_disease: bool, threshold: float) -> list[Counterfactual]:
    """Return one for each measurement that is modifiable or was not taken, in the record's order.

    All plausible values are tried in one call of `model`. The nearest value has the smallest distance from the
    patient's number; for codes and missing measurements, its probability is nearest to the threshold.
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
) -> Counterfactual:
    low, high = probabilities.min().item(), probabilities.max().item()
    if not crosses.any():
        return Counterfactual(field, value, None, None, low, high)
    distance = np.abs(probabilities - threshold if value is None or field.codes else others - value)
    nearest = int(np.where(crosses, distance, np.inf).argmin())
    return Counterfactual(field, value, others[nearest].item(), probabilities[nearest].item(), low, high)
