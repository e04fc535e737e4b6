"""Find counterfactuals: for each modifiable or missing measurement, the nearest value with the opposite result.

They describe the model, not the patient: one value is replaced, all others stay, and the model predicts again.
"""

import numpy as np
from numpy.typing import NDArray

from patient.encoding import as_array
from patient.record import Measurement, measurements
from service.model.execution import Run
from service.records.decoding import Values
from service.records.results import rounded
from service.records.schema import OtherValue


def find_counterfactuals(model: Run, values: Values, heart_disease: bool, threshold: float) -> list[OtherValue]:
    """Return one for each measurement that is modifiable or was not taken, in the record's order.

    All plausible values are tried in one call of `model`. The nearest value has the smallest distance from the
    patient's number; for codes and missing measurements, its probability is nearest to the threshold.
    """
    fields = [i for i, field in enumerate(measurements()) if field.modifiable or values[i] is None]
    others = [np.array([other for other in measurements()[i].plausible if other != values[i]]) for i in fields]
    counts = [len(tried) for tried in others]
    rows = as_array([values]).astype(np.float32).repeat(sum(counts), axis=0)
    rows[np.arange(len(rows)), np.repeat(fields, counts)] = np.concatenate(others)
    probabilities = np.split(rounded(model(rows)), np.cumsum(counts)[:-1])
    return [
        _nearest(measurements()[i], values[i], tried, found, heart_disease, threshold)
        for i, tried, found in zip(fields, others, probabilities, strict=True)
    ]


def _nearest(
    field: Measurement,
    value: float | None,
    others: NDArray[np.float64],
    probabilities: NDArray[np.float64],
    heart_disease: bool,
    threshold: float,
) -> OtherValue:
    new_value = probability = None
    crosses = (probabilities >= threshold) != heart_disease
    if crosses.any():
        distance = np.abs(probabilities - threshold if value is None or field.codes else others - value)
        nearest = int(np.where(crosses, distance, np.inf).argmin())
        new_value, probability = others[nearest].item(), probabilities[nearest].item()
        result = "no heart disease" if heart_disease else "heart disease"
        label = f"{field.describe(new_value)}. The model would predict {result}."
    else:
        low, *_, high = field.plausible
        tried = "any other finding" if field.codes else f"{low:g} to {high:g} {field.unit}"
        label = f"{field.title}, {tried}. The model would predict the same."
    return OtherValue(
        feature=field.name,
        value=value,
        to=new_value,
        probability=probability,
        low=probabilities.min().item(),
        high=probabilities.max().item(),
        label=label,
    )
