"""What the service answers: OpenAPI documents it, the client reads it, the command shows it. Knows no part of it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from patient.artefact import Metadata

NOTE = "What the model answers when one value is replaced and all others stay: a property of the model, not advice."


class Answer(BaseModel):
    """What the model says of one patient."""

    probability: float = Field(ge=0, le=1, description="of heart disease", examples=[0.0731])
    heart_disease: bool = Field(description="whether the probability reaches the threshold", examples=[False])
    missing: list[str] = Field(description="fields that were null", examples=[["ca"]])


class Prediction(Answer):
    """The answer to one record."""

    model_config = ConfigDict(protected_namespaces=())

    threshold: float = Field(description="the model's decision threshold", examples=[0.5])
    model_version: str = Field(description="the version that answered", examples=["1"])


class BatchPrediction(BaseModel):
    """The answers to a batch, in the order sent."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str = Field(description="the version that answered", examples=["1"])
    threshold: float = Field(description="the model's decision threshold", examples=[0.5])
    predictions: list[Answer]


class RowAnswer(BaseModel):
    """The answer to one row of a table. With `on_error=report` a bad row has nulls, and says why."""

    probability: float | None = Field(ge=0, le=1, description="of heart disease", examples=[0.0731])
    heart_disease: bool | None = Field(description="whether the probability reaches the threshold", examples=[False])
    missing: list[str] | None = Field(description="fields that were null", examples=[["ca"]])
    error: str | None = Field(
        None, description="what is wrong with the row; only with `on_error=report`", examples=[None]
    )


class TablePrediction(BaseModel):
    """The answers to a table, in the order sent."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str = Field(description="the version that answered", examples=["1"])
    threshold: float = Field(description="the model's decision threshold", examples=[0.5])
    predictions: list[RowAnswer]


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


class Ready(BaseModel):
    """A model is loaded and has answered once."""

    model_config = ConfigDict(protected_namespaces=())

    status: str = Field("ready", examples=["ready"])
    model_version: str = Field(examples=["1"])
    provider: str = Field(description="the execution provider that runs the model", examples=["CPUExecutionProvider"])
    fallback: str | None = Field(description="why `auto` did not take the GPU, or left it", examples=[None])
    crossover: int | None = Field(
        description="rows from which on a run goes to the GPU; null without one", examples=[None]
    )
    workers: int = Field(description="processes that serve", examples=[1])


class Served(Metadata):
    """What lies in the model file, and which file it is."""

    sha256: str = Field(description="of the model file")
