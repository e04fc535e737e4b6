"""A training run is the lecture's, seeded, and stops at its time limit."""

import time
from dataclasses import replace

import numpy as np
import pytest

from patient.encoding import encode, statistics
from trainer.dataset import Dataset
from trainer.fit import Fitted, fit
from trainer.metrics import scores
from trainer.recipe import Recipe


def test_497_parameters_from_29_inputs(fitted: Fitted) -> None:
    """29 * 16 + 16 + 16 * 1 + 1."""
    assert fitted.network.count_params() == 497
    assert fitted.network.input_shape == (None, 29)
    assert not fitted.encode.trainable_variables


def test_twenty_epochs_beat_the_majority_class(fitted: Fitted, cleveland: Dataset) -> None:
    """Twenty epochs are enough to beat the majority class by far."""
    assert fitted.losses[-1] < fitted.losses[0] - 0.1
    assert scores(cleveland.target, fitted.predict(cleveland.rows))["accuracy"] > 0.75


def test_the_encoding_layer_is_the_reference(fitted: Fitted, cleveland: Dataset) -> None:
    """On all 303 rows, and on rows where everything is missing."""
    rows = np.vstack([cleveland.rows, np.full((1, 13), np.nan, np.float32)])
    expected = encode(rows, *statistics([cleveland.rows]))
    assert np.asarray(fitted.encode(rows)) == pytest.approx(expected, abs=1e-6)


def test_equal_seeds_give_equal_weights(fitted: Fitted, cleveland: Dataset, brief: Recipe) -> None:
    """Same rows, same recipe, same machine: the same network, whatever was trained before; another seed another."""
    again = fit(cleveland.rows, cleveland.target, brief)
    other = fit(cleveland.rows, cleveland.target, brief.model_copy(update={"seed": 1}))
    assert again.losses == fitted.losses
    assert np.array_equal(again.predict(cleveland.rows), fitted.predict(cleveland.rows))
    assert not np.array_equal(other.predict(cleveland.rows), fitted.predict(cleveland.rows))


def test_standardisation_uses_the_training_rows_only(cleveland: Dataset) -> None:
    """A held-out row cannot leak into the encoding: what is fitted on a part has that part's statistics."""
    part = replace(cleveland, rows=cleveland.rows[:100], target=cleveland.target[:100])
    mean, _ = statistics([part.rows])
    assert np.array_equal(fit(part.rows, part.target, Recipe(epochs=1)).encode.mean, mean)
    assert not np.array_equal(statistics([cleveland.rows])[0], mean)


def test_the_time_limit_stops_training_after_an_epoch(cleveland: Dataset) -> None:
    """Run out of time, stop, and keep what was learnt."""
    begun = time.monotonic()
    fitted = fit(cleveland.rows, cleveland.target, Recipe(epochs=10**9, time_limit=0.5))
    assert time.monotonic() - begun < 30
    assert 1 <= len(fitted.losses) < 10**9


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(epochs=3, hidden=[32, 8], activation="tanh", optimizer="sgd", learning_rate=0.1, batch_size=7),
        Recipe(epochs=3, hidden=[], l2=0, dropout=0, blank=0, batch_size=1000),
    ],
    ids=["deep", "logistic regression"],
)
def test_every_setting_of_the_recipe_trains(cleveland: Dataset, recipe: Recipe) -> None:
    """Layers, units, activation, optimiser, batch size: each choice trains, also a batch larger than the data."""
    fitted = fit(cleveland.rows, cleveland.target, recipe)
    assert fitted.losses[-1] < fitted.losses[0]
    widths = [layer.units for layer in fitted.network.layers if hasattr(layer, "units")]
    assert widths == [*recipe.hidden, 1]


def test_the_l2_penalty_shrinks_the_weights(cleveland: Dataset) -> None:
    """The sum of squared weights falls."""

    def size(l2: float) -> float:
        fitted = fit(cleveland.rows, cleveland.target, Recipe(epochs=20, l2=l2))
        return sum(float((w.numpy() ** 2).sum()) for w in fitted.network.trainable_variables)

    assert size(0.1) < 0.9 * size(0)
