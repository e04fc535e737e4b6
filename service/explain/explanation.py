"""The reasons for an answer, in words: each measurement's share in it, and what would change it. Knows no HTTP."""

from functools import partial

import numpy as np

from patient.encoding import Floats, as_array
from patient.record import FIELDS, measurements
from service.explain.counterfactuals import Change, changes
from service.explain.shapley import Doubles, shapley
from service.model.execution import Run
from service.model.predictor import Predictor
from service.records.decoding import Values
from service.records.results import DIGITS, invalid_probabilities, rounded
from service.records.schema import Contribution, Explanation, OtherValue

FINEST = 0.5 * 10.0**-DIGITS  # a probability told as 0 or 1 is taken for half the last digit: log-odds end at +-16.8
PLACES = 6  # of the shares: they add up to the log-odds within 1e-5


def log_odds(model: Run, rows: Floats) -> Doubles:
    """float64[N] from float32[N,13]: ln(p / (1 - p)) of the probabilities as they are told.

    Raises ArithmeticError where there is none.
    """
    told = rounded(model(rows))
    if invalid_probabilities(told).any():
        raise ArithmeticError("the model has no probability")
    probabilities = np.clip(told, FINEST, 1 - FINEST)
    found: Doubles = np.log(probabilities / (1 - probabilities))
    return found


def explain(model: Predictor, values: Values) -> Explanation:
    """The reasons for the model's answer to 13 values, None = not taken. The model must have a background.

    Raises DeviceLost as the model does.
    """
    row, background = (as_array(rows).astype(np.float32) for rows in ([values], model.metadata.background))
    shares = shapley(partial(log_odds, model), row[0], background)
    probability = _probability(shares.answer)
    threshold = model.metadata.threshold
    heart_disease = probability >= threshold
    contributions = [
        Contribution(feature=field.name, value=value, contribution=round(share, PLACES), label=field.describe(value))
        for field, value, share in zip(measurements(), values, shares.values.tolist(), strict=True)
    ]
    return Explanation(
        model_version=model.version,
        threshold=threshold,
        probability=probability,
        heart_disease=heart_disease,
        missing=[name for name, value in zip(FIELDS, values, strict=True) if value is None],
        log_odds=round(shares.answer, PLACES),
        base_value=round(shares.base, PLACES),
        base_probability=_probability(shares.base),
        contributions=sorted(contributions, key=lambda one: -abs(one.contribution)),
        changes=[_told(change, heart_disease) for change in changes(model, values, heart_disease, threshold)],
    )


def _probability(odds: float) -> float:
    """Of these log-odds, as it is told."""
    return round(1 / (1 + float(np.exp(-odds))), DIGITS)


def _told(change: Change, heart_disease: bool) -> OtherValue:
    """A change in words."""
    field, others = change.field, change.field.plausible
    if change.to is None:
        tried = "any other finding" if field.codes else f"{others[0]:g} to {others[-1]:g} {field.unit}"
        label = f"{field.title}, {tried}. The model would answer the same."
    else:
        label = f"{field.describe(change.to)}. The model would answer {'no ' if heart_disease else ''}heart disease."
    return OtherValue(
        feature=field.name,
        value=change.value,
        to=change.to,
        probability=change.probability,
        low=change.low,
        high=change.high,
        label=label,
    )
