"""All that is random in a training run, drawn from one seeded numpy generator.

Keras draws nothing: so the run in TensorFlow (fit.py) and the one in numpy that trains many folds together (stacked.py)
start from the same weights and see the same rows, with the same inputs dropped, in the same order.
"""

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, Field

from patient.encoding import Floats, layout
from patient.record import FIELDS

BLANK = 0.75  # in a row that loses fields, the probability of each of `blank_fields` to be lost


def _known(name: str) -> str:
    if name not in FIELDS:
        raise ValueError(f"not a field of the record; they are {', '.join(FIELDS)}")
    return name


KnownField = Annotated[str, AfterValidator(_known)]


class Recipe(BaseModel):
    """All that the lecture lets one choose, with the default that serves this data best."""

    hidden: list[int] = Field([16], description="units of each hidden layer, such as 16 or 32,16")
    activation: Literal["relu", "tanh", "sigmoid"] = Field(
        "relu", description="activation of the hidden layers; the output is always sigmoid"
    )
    optimizer: Literal["adam", "sgd"] = Field("adam", description="how a gradient becomes a step")
    learning_rate: float = Field(0.001, gt=0, description="length of a step")
    batch_size: int = Field(32, ge=1, description="rows in a minibatch")
    epochs: int = Field(300, ge=1, description="passes over the training rows")
    time_limit: float | None = Field(
        None, gt=0, description="stop after the epoch in which so many seconds have passed"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of all that is random")
    l2: float = Field(0.008, ge=0, description="penalty on the squared weights; 0 is the lecture's")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of inputs dropped in each step; 0 is the lecture's")
    bias: float = Field(2, description="start of ReLU units' biases; 0: the lecture's, 2: the network starts as linear")
    blank: float = Field(
        0.5, ge=0, le=1, description="share of rows that lose whole fields in an epoch; 0: the lecture's"
    )
    blank_fields: list[KnownField] = Field(
        ["ca", "thal", "slope", "chol"], description="fields that such a row may lose"
    )


class Noise:
    """One run's random numbers, in the order in which the run needs them."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.rng = recipe, np.random.default_rng(recipe.seed)
        columns = layout()
        source = np.concatenate([columns.numeric, columns.onehot])
        fields = [FIELDS.index(name) for name in recipe.blank_fields]
        self.columns = np.flatnonzero(np.isin(source, fields))  # encoded columns that may be blanked,
        self.field_of = np.array([fields.index(i) for i in source[self.columns]], np.intp)  # and whose they are

    def weights(self) -> list[Floats]:
        """Kernel, bias, kernel, bias, ... kernels uniform as Glorot and Bengio (2010) start them."""
        widths = [layout().width, *self.recipe.hidden, 1]
        found: list[Floats] = []
        for layer, (fan_in, fan_out) in enumerate(pairwise(widths)):
            start = self.recipe.bias if layer < len(self.recipe.hidden) and self.recipe.activation == "relu" else 0
            limit = np.sqrt(6 / (fan_in + fan_out))
            found += [
                self.rng.uniform(-limit, limit, (fan_in, fan_out)).astype(np.float32),
                np.full(fan_out, start, np.float32),
            ]
        return found

    def epoch(self, rows: int) -> tuple[NDArray[np.int32], Floats]:
        """The order of the rows, int32[rows], and the factor of each of their inputs in that order, float32[rows,29].

        0 where an input is dropped (the others grow, so that their sum stays) or its whole field is blanked (encoded, a
        missing field is 0).
        """
        order = self.rng.permutation(rows).astype(np.int32)
        factor = np.ones((rows, layout().width), np.float32)
        if self.recipe.dropout:
            kept = self.rng.random(factor.shape, np.float32) >= self.recipe.dropout
            factor = kept * np.float32(1 / (1 - self.recipe.dropout))
        if self.recipe.blank:
            blanked = self.rng.random((rows, 1), np.float32) < self.recipe.blank
            lost = blanked & (self.rng.random((rows, len(self.recipe.blank_fields)), np.float32) < BLANK)
            factor[:, self.columns] *= ~lost[:, self.field_of]
        return order, factor
