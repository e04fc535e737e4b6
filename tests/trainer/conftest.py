"""A small cross-validation that costs nothing: logistic regressions on made-up folds of the real patients."""

from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from patient.encoding import Floats, encode, statistics
from patient.record import FIELDS
from trainer.cross_validation import CrossValidation
from trainer.dataset import Dataset
from trainer.recipe import Recipe
from trainer.report.plots import figures

if TYPE_CHECKING:
    from trainer.fit import Fitted

LOSSES = np.hypot(*np.meshgrid(np.linspace(-1, 1, 21), np.linspace(-1, 1, 21))).astype(np.float32) + np.float32(0.3)


def predict(rows: Floats) -> Floats:
    """A model to see through: it rises with age, and is a quarter higher for men."""
    probability: Floats = rows[:, FIELDS.index("age")] / np.float32(200) + rows[:, FIELDS.index("sex")] / np.float32(4)
    return probability


@pytest.fixture(scope="session")
def brief() -> Recipe:
    """The default network, trained for seconds."""
    return Recipe(epochs=20)


@pytest.fixture(scope="session")
def fitted(cleveland: Dataset, brief: Recipe) -> "Fitted":
    """A network fitted on all records."""
    from trainer.fit import fit  # loads TensorFlow

    return fit(cleveland.rows, cleveland.target, brief)


@pytest.fixture(scope="session")
def validation(cleveland: Dataset) -> CrossValidation:
    """Two models in two repeats, and curves that look like learning."""
    inputs = encode(cleveland.rows, *statistics([cleveland.rows]))

    def out_of_fold(strength: float, seed: int) -> Floats:
        model, folds = LogisticRegression(C=strength), StratifiedKFold(5, shuffle=True, random_state=seed)
        found = cross_val_predict(model, inputs, cleveland.target, cv=folds, method="predict_proba")
        return np.asarray(found[:, 1], np.float32)

    epochs = np.arange(40)
    return CrossValidation(
        rows=cleveland.rows,
        target=cleveland.target,
        probability={
            name: np.stack([out_of_fold(strength, seed) for seed in (0, 1)])
            for name, strength in (("network", 0.05), ("logistic regression", 0.3))
        },
        learning=np.stack([0.3 + 0.4 * np.exp(-epochs / 9), 0.37 + 0.3 * np.exp(-epochs / 8)]).astype(np.float32),
        missing={lost: {"network": 0.37, "logistic regression": 0.38} for lost in ("nothing", "ca, thal")},
    )


@pytest.fixture(scope="session")
def drawn(validation: CrossValidation) -> dict[str, bytes]:
    """All plots of the card by file name."""
    return figures(validation, predict, LOSSES, 0.5)
