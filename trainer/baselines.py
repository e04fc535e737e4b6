"""Baselines for the network: scikit-learn models whose settings are chosen on the training rows alone."""

import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from threadpoolctl import threadpool_limits

from patient.encoding import Floats, encode, statistics
from trainer.randomness import Randomness
from trainer.recipe import Recipe

# Rows and target to train on, tables to predict (float32[N,13], NaN = missing), and the network's recipe, to a
# float32[N] for each table.
Baseline = Callable[[Floats, Floats, list[Floats], Recipe], list[Floats]]

INNER_FOLDS = 5
COPIES = 16  # of each training row, blanked at random
STRENGTHS = np.geomspace(0.01, 3, 8)  # C, the inverse of the penalty
LEAVES = (1, 3, 6, 10)  # least rows in a leaf of the forest
BOOSTING = {"max_iter": [50, 100, 150], "max_leaf_nodes": [2, 3], "max_features": [0.3, 1.0]}


def logistic_regression(rows: Floats, target: Floats, tables: list[Floats], recipe: Recipe) -> list[Floats]:
    """Fit the 29 encoded inputs, blanked as the network's are in training; C is chosen by inner 5-fold CV.

    So it differs from the network in shape alone. All copies of a patient are in one fold.
    """
    mean, std = statistics([rows])
    encoded = encode(rows, mean, std)
    random = Randomness(recipe.model_copy(update={"dropout": 0}))
    epochs = [random.epoch(len(rows)) for _ in range(COPIES if recipe.blank else 1)]
    inputs = np.concatenate([encoded[order] * factor for order, factor in epochs])
    orders = np.concatenate([order for order, _ in epochs])
    labels = target[orders]

    def fit(c: float, chosen: slice | NDArray[np.bool_] = slice(None)) -> LogisticRegression:
        model = LogisticRegression(C=c * len(rows) / len(orders), solver="newton-cholesky")
        return model.fit(inputs[chosen], labels[chosen])

    losses = np.zeros(len(STRENGTHS))
    for _, test in _inner_folds().split(rows, target):
        held = np.isin(orders, test)
        losses += [log_loss(labels[held], fit(c, ~held).predict_proba(inputs[held])) for c in STRENGTHS]
    best = fit(STRENGTHS[losses.argmin()])
    return [best.predict_proba(encode(table, mean, std))[:, 1].astype(np.float32) for table in tables]


def random_forest(rows: Floats, target: Floats, tables: list[Floats], _recipe: Recipe) -> list[Floats]:
    """Fit 200 trees; the size of their leaves is chosen by the loss out of bag."""
    forests = [
        RandomForestClassifier(200, min_samples_leaf=leaf, oob_score=True, random_state=0).fit(rows, target)
        for leaf in LEAVES
    ]
    best = min(forests, key=lambda forest: log_loss(target, forest.oob_decision_function_.clip(1e-3, 1 - 1e-3)))
    return _predict(best, tables)


def gradient_boosting(rows: Floats, target: Floats, tables: list[Floats], _recipe: Recipe) -> list[Floats]:
    """Fit boosted trees; their number, leaves and the share of fields at a split are chosen by inner 5-fold CV."""
    trees = HistGradientBoostingClassifier(random_state=0)
    return _predict(GridSearchCV(trees, BOOSTING, cv=_inner_folds(), scoring="neg_log_loss").fit(rows, target), tables)


def majority(rows: Floats, target: Floats, tables: list[Floats], _recipe: Recipe) -> list[Floats]:
    """Predict the training rows' share of disease for everybody."""
    return _predict(DummyClassifier(strategy="prior").fit(rows, target), tables)


def _inner_folds() -> StratifiedKFold:
    return StratifiedKFold(INNER_FOLDS, shuffle=True, random_state=0)


def _predict(model: ClassifierMixin, tables: list[Floats]) -> list[Floats]:
    return [model.predict_proba(table)[:, 1].astype(np.float32) for table in tables]


BASELINES: dict[str, Baseline] = {
    "majority class": majority,
    "logistic regression": logistic_regression,
    "random forest": random_forest,
    "gradient boosting": gradient_boosting,
}


def fit_all(
    baseline: Baseline, parts: Iterable[tuple[Floats, Floats, list[Floats]]], recipe: Recipe
) -> Iterator[list[Floats]]:
    """Fit the baseline on each part, in as many processes as there are cores; yield its predictions in their order."""
    context = multiprocessing.get_context("forkserver")  # a fork would copy TensorFlow's threads' locks
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), context) as pool:
        yield from pool.map(_fit_one, repeat(baseline), parts, repeat(recipe))


def _fit_one(baseline: Baseline, part: tuple[Floats, Floats, list[Floats]], recipe: Recipe) -> list[Floats]:
    # Threads of several processes wait for each other on the same cores: boosting took 30 times as long.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few rows: some were in no tree's bag, or a class has few
        return baseline(*part, recipe)
