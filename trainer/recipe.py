"""The settings of a training run."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator

from patient.record import FIELDS


def _check_field(name: str) -> str:
    if name not in FIELDS:
        raise ValueError(f"not a field of the record; they are {', '.join(FIELDS)}")
    return name


LECTURE: dict[str, Any] = {"l2": 0, "dropout": 0, "bias": 0, "blank": 0, "epochs": 300}  # what it does without


class Recipe(BaseModel):
    """Settings of a training run. The defaults are among the best by cross-validated log loss: docs/adr/0003."""

    recipe: Literal["shipped", "lecture"] = Field(
        "shipped", description="Defaults of the other settings. lecture: no penalty, dropout, blanking or linear start."
    )
    hidden: list[int] = Field([16], description="Units of each hidden layer, such as 16 or 32,16.")
    activation: Literal["relu", "tanh", "sigmoid"] = Field(
        "relu", description="Activation of the hidden layers; the output is always sigmoid."
    )
    optimizer: Literal["adam", "sgd"] = Field("adam", description="Optimization algorithm.")
    learning_rate: float = Field(0.001, gt=0, description="Step size of the optimizer.")
    batch_size: int = Field(32, ge=1, description="Rows in a minibatch.")
    epochs: int = Field(300, ge=1, description="Passes over the training rows.")
    time_limit: float | None = Field(None, gt=0, description="Stop after the epoch in which this many seconds passed.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of all random numbers.")
    l2: float = Field(0.008, ge=0, description="Penalty on the squared weights; 0 in the lecture.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Share of inputs dropped in each step; 0 in the lecture.")
    bias: float = Field(2, description="Initial bias of ReLU units; 0 in the lecture, 2 starts with a linear network.")
    blank: float = Field(0.5, ge=0, le=1, description="Share of rows that lose fields in an epoch; 0 in the lecture.")
    blank_fields: list[Annotated[str, AfterValidator(_check_field)]] = Field(
        ["ca", "thal", "slope", "chol"], description="Fields that such a row may lose."
    )

    @model_validator(mode="before")
    @classmethod
    def _as_in_the_lecture(cls, given: Any) -> Any:
        return LECTURE | given if isinstance(given, dict) and given.get("recipe") == "lecture" else given
