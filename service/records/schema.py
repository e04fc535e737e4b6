"""Pydantic models of responses: OpenAPI documents them, the client parses them, the command prints them."""

from typing import Annotated

from pydantic import BaseModel, Field, PlainSerializer, WithJsonSchema

from patient.artefact import Metadata

NOTE = "What the model predicts when one value is replaced and all others stay: a property of the model, not advice."
MISSING = "fields that were null, or 0 (unspecified) in cp"

Probability = Annotated[float, Field(ge=0, le=1, description="of heart disease", examples=[0.0731])]
HeartDisease = Annotated[bool, Field(description="whether the probability reaches the threshold", examples=[False])]
Missing = Annotated[list[str], Field(description=MISSING, examples=[["ca"]])]
Threshold = Annotated[float, Field(description="the model's decision threshold", examples=[0.5])]
ModelVersion = Annotated[str, Field(description="the model version that predicted", examples=["1"])]
# A measurement is written as 150, not 150.0.
Number = Annotated[
    float,
    PlainSerializer(lambda value: int(value) if value.is_integer() else value),
    WithJsonSchema({"type": "number"}),
]


class Answer(BaseModel):
    """The prediction for one patient."""

    probability: Probability
    heart_disease: HeartDisease
    missing: Missing


class Prediction(Answer):
    """The prediction for a single record."""

    threshold: Threshold
    model_version: ModelVersion


class BatchPrediction(BaseModel):
    """The predictions for a batch, in the order of the records."""

    model_version: ModelVersion
    threshold: Threshold
    predictions: list[Answer]


class RowAnswer(BaseModel):
    """The prediction for one row of a table. With `on_error=report` an invalid row has nulls and an error."""

    probability: float | None = Field(ge=0, le=1, description="of heart disease", examples=[0.0731])
    heart_disease: bool | None = Field(description="whether the probability reaches the threshold", examples=[False])
    missing: list[str] | None = Field(description=MISSING, examples=[["ca"]])
    error: str | None = Field(
        None, description="what is wrong with the row; only with `on_error=report`", examples=[None]
    )


class TablePrediction(BaseModel):
    """The predictions for a table, in the order of the rows."""

    model_version: ModelVersion
    threshold: Threshold
    predictions: list[RowAnswer]


class Contribution(BaseModel):
    """What one measurement adds to the log-odds."""

    feature: str = Field(examples=["thalach"])
    value: Number | None = Field(description="as sent; null: not taken", examples=[150])
    contribution: float = Field(description="above 0 it increases the probability", examples=[-0.0517])
    label: str = Field(description="the measurement in words", examples=["Maximum heart rate 150 beats/min"])


class OtherValue(BaseModel):
    """The nearest value of one measurement with which the model predicts the opposite."""

    feature: str = Field(examples=["oldpeak"])
    value: Number | None = Field(description="as sent; null: not taken", examples=[2.3])
    to: Number | None = Field(
        description="the other value; null: no plausible value changes the prediction", examples=[2.6]
    )
    probability: float | None = Field(description="the probability with the other value", examples=[0.5021])
    low: float = Field(description="the lowest probability with any other plausible value", examples=[0.3862])
    high: float = Field(description="the highest probability with any other plausible value", examples=[0.8137])
    label: str = Field(examples=["ST depression 2.6 mm. The model would predict heart disease."])


class Explanation(BaseModel):
    """The prediction for one record, explained: base_value and all contributions add up to log_odds."""

    model_version: ModelVersion
    threshold: Threshold
    probability: Probability
    heart_disease: HeartDisease
    missing: Missing
    log_odds: float = Field(description="of the probability: ln(p / (1 - p))", examples=[-0.3101])
    base_value: float = Field(description="mean log-odds of the model's background patients", examples=[-0.2214])
    base_probability: float = Field(description="the probability at base_value", examples=[0.4449])
    contributions: list[Contribution] = Field(description="exact Shapley values of the log-odds, the largest first")
    changes: list[OtherValue] = Field(
        description="for each measurement that can change or was not taken, the nearest plausible value with which the "
        "model predicts the opposite. This describes the model when that value is replaced and all others stay; it is "
        "neither a forecast for the patient nor advice on treatment"
    )
    note: str = Field(NOTE, description="how to read `changes`", examples=[NOTE])


class Ready(BaseModel):
    """A model is loaded and has passed its checks."""

    status: str = Field("ready", examples=["ready"])
    model_version: str = Field(examples=["1"])
    provider: str = Field(description="the execution provider that runs the model", examples=["CPUExecutionProvider"])
    fallback: str | None = Field(description="why provider=auto does not use a GPU", examples=[None])
    crossover: int | None = Field(
        description="the smallest run, in rows, that goes to the GPU; null without a GPU", examples=[None]
    )
    workers: int = Field(description="processes that serve", examples=[1])


class Served(Metadata):
    """The metadata of the model file, and its digest."""

    sha256: str = Field(description="of the model file")
