"""The settings of a training run."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from patient.record import FIELDS


def _check_field(name: str) -> str:
    if name not in FIELDS:
        raise ValueError(f"not a field of the record; they are {', '.join(FIELDS)}")
    return name


class Recipe(BaseModel):
    """The lecture's choices; the defaults gave the best cross-validated log loss on the Cleveland data."""

    hidden: list[int] = Field([16], description="units of each hidden layer, such as 16 or 32,16")
    activation: Literal["relu", "tanh", "sigmoid"] = Field(
        "relu", description="activation of the hidden layers; the output is always sigmoid"
    )
    optimizer: Literal["adam", "sgd"] = Field("adam", description="optimization algorithm")
    learning_rate: float = Field(0.001, gt=0, description="step size of the optimizer")
    batch_size: int = Field(32, ge=1, description="rows in a minibatch")
    epochs: int = Field(300, ge=1, description="passes over the training rows")
    time_limit: float | None = Field(None, gt=0, description="stop after the epoch in which this many seconds passed")
    seed: int = Field(0, ge=0, lt=2**31, description="seed of all random numbers")
    l2: float = Field(0.008, ge=0, description="penalty on the squared weights; 0 is the lecture's")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of inputs dropped in each step; 0 is the lecture's")
    bias: float = Field(2, description="initial bias of ReLU units; 0 is the lecture's, 2 starts with a linear network")
    blank: float = Field(0.5, ge=0, le=1, description="share of rows that lose fields in an epoch; 0 is the lecture's")
    blank_fields: list[Annotated[str, AfterValidator(_check_field)]] = Field(
        ["ca", "thal", "slope", "chol"], description="fields that such a row may lose"
    )
