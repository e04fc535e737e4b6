"""Explain a prediction: the contribution of each measurement, and counterfactuals."""

from functools import partial

import numpy as np

from patient.encoding import Floats, as_array
from patient.record import measurements, missing
from service.explain.counterfactuals import find_counterfactuals
from service.explain.shapley import Doubles, compute_shapley_values
from service.model.execution import Run
from service.model.predictor import Predictor
from service.records.decoding import Values
from service.records.results import DIGITS, invalid_probabilities, rounded
from service.records.schema import Contribution, Explanation

MIN_PROBABILITY = 0.5 * 10.0**-DIGITS  # half the last digit stands for a rounded 0 or 1: log-odds end at +-16.8
PLACES = 6  # of contributions, which add up to the log-odds within 1e-5


def log_odds(model: Run, rows: Floats) -> Doubles:
    """Return float64[N] for float32[N,13]: ln(p / (1 - p)) of the rounded probabilities.

    Raises ArithmeticError if the model's output is not a probability.
    """
    probabilities = rounded(model(rows))
    if invalid_probabilities(probabilities).any():
        raise ArithmeticError("the model has no probability")
    probabilities = np.clip(probabilities, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    found: Doubles = np.log(probabilities / (1 - probabilities))
    return found


def explain(model: Predictor, values: Values) -> Explanation:
    """Explain the prediction for 13 values, None = not taken. The model must have background patients.

    Raises DeviceLost and ArithmeticError.
    """
    row, background = (as_array(rows).astype(np.float32) for rows in ([values], model.metadata.background))
    shapley = compute_shapley_values(partial(log_odds, model), row[0], background)
    probability = _probability(shapley.output)
    threshold = model.metadata.threshold
    heart_disease = probability >= threshold
    contributions = [
        Contribution(
            feature=field.name, value=value, contribution=round(contribution, PLACES), label=field.describe(value)
        )
        for field, value, contribution in zip(measurements(), values, shapley.values.tolist(), strict=True)
    ]
    return Explanation(
        model_version=model.version,
        threshold=threshold,
        probability=probability,
        heart_disease=heart_disease,
        missing=missing(values),
        log_odds=round(shapley.output, PLACES),
        base_value=round(shapley.base, PLACES),
        base_probability=_probability(shapley.base),
        contributions=sorted(contributions, key=lambda item: -abs(item.contribution)),
        changes=find_counterfactuals(model, values, heart_disease, threshold),
    )


def _probability(log_odds: float) -> float:
    return round(1 / (1 + float(np.exp(-log_odds))), DIGITS)
