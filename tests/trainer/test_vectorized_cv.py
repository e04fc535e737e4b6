"""Folds that are trained together come out as if each had been trained alone, by Keras."""

import numpy as np
import pytest

from trainer.dataset import Dataset
from trainer.fit import fit
from trainer.recipe import Recipe
from trainer.vectorized_cv import fit_folds


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(epochs=30),
        Recipe(epochs=5, l2=0, dropout=0, blank=0, bias=0),
        Recipe(epochs=5, hidden=[8, 4], activation="tanh", optimizer="sgd", learning_rate=0.1, batch_size=50),
        Recipe(epochs=5, hidden=[6], activation="sigmoid", batch_size=1000, blank_fields=["age"]),
        Recipe(epochs=5, hidden=[]),
    ],
    ids=["default", "lecture", "deep tanh", "sigmoid", "logistic regression"],
)
def test_each_folds_weights_are_those_of_keras(cleveland: Dataset, recipe: Recipe) -> None:
    """Same rows and seed, same weights within float tolerance, also for folds of unequal length."""
    folds = [np.arange(0, 303, 2), np.arange(32), np.arange(100, 303)]
    together = fit_folds(cleveland.rows, cleveland.target, folds, recipe)
    for k, fold in enumerate(folds):
        alone = fit(cleveland.rows[fold], cleveland.target[fold], recipe.model_copy(update={"seed": recipe.seed + k}))
        for ours, theirs in zip(together.weights, alone.network.get_weights(), strict=True):
            assert ours[k].reshape(theirs.shape) == pytest.approx(theirs, abs=2e-5)
        assert together.predict(k, cleveland.rows) == pytest.approx(alone.predict(cleveland.rows), abs=1e-5)


def test_each_epoch_is_reported(cleveland: Dataset) -> None:
    """So that learning curves can be drawn."""
    heard: list[int] = []
    fit_folds(
        cleveland.rows, cleveland.target, [np.arange(303)], Recipe(epochs=3), lambda epoch, _stack: heard.append(epoch)
    )
    assert heard == [1, 2, 3]
