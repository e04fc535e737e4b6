"""All random numbers of a training run, from one seeded numpy generator.

Keras draws none. So the run in TensorFlow (fit.py) and the one in numpy that trains many folds together
(vectorized_cv.py) start from the same weights and see the same rows in the same order, with the same inputs dropped.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from patient.encoding import Floats, layout
from patient.record import FIELDS
from trainer.recipe import Recipe

BLANK = 0.75  # probability with which a row that loses fields loses each of `blank_fields`


class Randomness:
    """One run's random numbers, in the order in which the run needs them."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.rng = recipe, np.random.default_rng(recipe.seed)
        columns = layout()
        source = np.concatenate([columns.numeric, columns.onehot])
        fields = [FIELDS.index(name) for name in recipe.blank_fields]
        self.columns = np.flatnonzero(np.isin(source, fields))  # encoded columns that may be blanked,
        self.field_of = np.array([fields.index(i) for i in source[self.columns]], np.intp)  # and the field of each

    def weights(self) -> list[Floats]:
        """Initial kernel, bias, kernel, bias, ...; kernels are uniform (Glorot and Bengio, 2010)."""
        widths = [layout().width, *self.recipe.hidden, 1]
        found: list[Floats] = []
        for layer, (fan_in, fan_out) in enumerate(pairwise(widths)):
            start = self.recipe.bias if layer < len(self.recipe.hidden) and self.recipe.activation == "relu" else 0
            limit = np.sqrt(6 / (fan_in + fan_out))
            kernel = self.rng.uniform(-limit, limit, (fan_in, fan_out)).astype(np.float32)
            found += [kernel, np.full(fan_out, start, np.float32)]
        return found

    def epoch(self, rows: int) -> tuple[NDArray[np.int32], Floats]:
        """The order of the rows, int32[rows], and the factor of each of their inputs in that order, float32[rows,29].

        The factor is 0 where an input is dropped or its whole field is blanked: 0 encodes a missing field. Inputs that
        are not dropped grow, so that their expected sum stays.
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
