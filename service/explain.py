"""The reasons for an answer, in words: each measurement's share in it, and what would change it. Knows no HTTP."""

from functools import partial
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from patient.encoding import Floats, as_array
from patient.record import FIELDS, measurements
from service.answers import DIGITS, rounded
from service.body import Values
from service.changes import Change, changes
from service.predictor import Predictor
from service.rows import Run
from service.shapley import Doubles, shapley

FINEST = 0.5 * 10.0**-DIGITS  # a probability told as 0 or 1 is taken for half the last digit: log-odds end at +-16.8
PLACES = 6  # of the shares: they add up to the log-odds within 1e-5
NOTE = "What the model answers when one value is replaced and all others stay: a property of the model, not advice."


# A measurement as people write it: 150 and not 150.0.
Number = Annotated[
    float,
    PlainSerializer(lambda value: int(value) if value.is_integer() else value),
    WithJsonSchema({"type": "number"}),
]


class Contribution(BaseModel):
    """What one measurement adds to the log-odds."""

    feature: str = Field(examples=["thalach"])
    value: Number | None = Field(description="as sent; null: not taken", examples=[150])
    contribution: float = Field(description="above 0 it speaks for heart disease", examples=[-0.0517])
    label: str = Field(description="the measurement in words", examples=["Maximum heart rate 150 beats/min"])


class OtherValue(BaseModel):
    """The nearest value of one measurement at which the model's answer is the opposite."""

    feature: str = Field(examples=["oldpeak"])
    value: Number | None = Field(description="as sent; null: not taken", examples=[2.3])
    to: Number | None = Field(
        description="the other value; null: no plausible value changes the answer", examples=[2.6]
    )
    probability: float | None = Field(description="what the model says with it", examples=[0.5021])
    low: float = Field(description="the least that the model says with another plausible value", examples=[0.3862])
    high: float = Field(description="the greatest", examples=[0.8137])
    label: str = Field(examples=["ST depression 2.6 mm. The model would answer heart disease."])


class Explanation(BaseModel):
    """The answer to one record, and its reasons: base_value and all contributions add up to log_odds."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str = Field(description="the version that answered", examples=["3"])
    threshold: float = Field(description="the model's decision threshold", examples=[0.5])
    probability: float = Field(ge=0, le=1, description="of heart disease", examples=[0.4231])
    heart_disease: bool = Field(description="whether the probability reaches the threshold", examples=[False])
    missing: list[str] = Field(description="fields that were null", examples=[["ca"]])
    log_odds: float = Field(description="of the probability: ln(p / (1 - p))", examples=[-0.3101])
    base_value: float = Field(description="mean log-odds of the model's background patients", examples=[-0.2214])
    base_probability: float = Field(description="the probability at base_value", examples=[0.4449])
    contributions: list[Contribution] = Field(description="exact Shapley values of the log-odds, the largest first")
    changes: list[OtherValue] = Field(
        description="for each measurement that another day may find otherwise, or that was not taken, the nearest "
        "plausible value that changes the answer. A property of the model: what it answers when that value is replaced "
        "and all others stay, not what becomes of the patient, and no advice on treatment"
    )
    note: str = Field(NOTE, description="how to read `changes`", examples=[NOTE])


def log_odds(model: Run, rows: Floats) -> Doubles:
    """float64[N] from float32[N,13]: ln(p / (1 - p)) of the probabilities as they are told."""
    probabilities = np.clip(rounded(model(rows)), FINEST, 1 - FINEST)
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
        Contribution(feature=field.name, value=value, contribution=round(share, PLACES), label=field.said(value))
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
        label = f"{field.said(change.to)}. The model would answer {'no ' if heart_disease else ''}heart disease."
    return OtherValue(
        feature=field.name,
        value=change.value,
        to=change.to,
        probability=change.probability,
        low=change.low,
        high=change.high,
        label=label,
    )
