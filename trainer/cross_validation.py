"""Repeated stratified k-fold cross-validation of the network and its baselines, on the same folds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patient.encoding import Floats
from patient.record import FIELDS
from trainer.baselines import BASELINES, fit_all, logistic_regression
from trainer.metrics import score
from trainer.readers import DatasetError
from trainer.recipe import LECTURE as LECTURE_RECIPE
from trainer.recipe import Recipe
from trainer.vectorized_cv import FoldNetworks, fit_folds

NETWORK, LECTURE, RETRAINED = "network", "network, lecture's recipe", "network retrained without them"
LACKING = ((), ("ca", "thal"), ("ca", "thal", "slope"), ("ca", "thal", "slope", "chol"))  # in other hospitals' tables

OnProgress = Callable[[str, int, int], None]  # receives the model's name, the steps done, and the total


@dataclass(frozen=True)
class CrossValidation:
    """Out-of-fold predictions of several models for the same patients on the same folds."""

    rows: Floats  # float32[N,13], NaN = missing
    target: Floats  # float32[N] of 0 and 1
    probability: dict[str, Floats]  # by model, float32[R,N]: in each of R repeats from fits without that patient
    learning: Floats  # float32[2,E]: the network's training and held-out log loss after each epoch, mean over folds
    missing: dict[str, dict[str, float]]  # log loss by the fields that held-out rows lack ("ca, thal"), and by model


@dataclass(frozen=True)
class Folds:
    """R repeats of k folds: train[i] and test[i] are sorted row indices, fold i belonging to repeat i // k."""

    repeats: int
    k: int
    train: list[NDArray[np.intp]]
    test: list[NDArray[np.intp]]


def stratified_folds(target: Floats, repeats: int, k: int, seed: int) -> Folds:
    """Assign the rows to folds at random in every repeat; every fold gets its share of either class.

    Raises DatasetError if a class has fewer than `k` rows.
    """
    healthy, diseased = np.bincount(target.astype(int), minlength=2).tolist()
    if min(healthy, diseased) < k:
        raise DatasetError(
            f"{k} folds need {k} patients with and {k} without disease; the table has {diseased} and {healthy}:"
            " set fewer --folds"
        )
    rng = np.random.default_rng(seed)
    test: list[NDArray[np.intp]] = []
    for _ in range(repeats):
        dealt = np.concatenate([rng.permutation(np.flatnonzero(target == label)) for label in (0, 1)])
        fold_of = np.empty(len(target), int)
        fold_of[dealt] = np.arange(len(target)) % k
        test += [np.flatnonzero(fold_of == fold) for fold in range(k)]
    return Folds(repeats, k, [np.setdiff1d(np.arange(len(target)), rows) for rows in test], test)


def without_fields(rows: Floats, fields: Sequence[str]) -> Floats:
    """Return a copy in which these fields are missing."""
    copy = rows.copy()
    copy[:, [FIELDS.index(name) for name in fields]] = np.nan
    return copy


def cross_validate(
    rows: Floats, target: Floats, recipe: Recipe, folds: Folds, on_progress: OnProgress, name: str = NETWORK
) -> Floats:
    """Train the recipe's network on every fold; return its out-of-fold predictions, float32[R,N]."""
    networks = fit_folds(rows, target, folds.train, recipe, lambda epoch, _: on_progress(name, epoch, recipe.epochs))
    return out_of_fold(networks, rows, folds)


def out_of_fold(networks: FoldNetworks, rows: Floats, folds: Folds) -> Floats:
    """float32[R,N]: in each repeat the prediction for each row by the network that was not trained on it."""
    found = np.empty((folds.repeats, len(rows)), np.float32)
    for i, test in enumerate(folds.test):
        found[i // folds.k, test] = networks.predict(i, rows[test])
    return found


def cross_validate_models(
    rows: Floats, target: Floats, recipe: Recipe, folds: Folds, on_progress: OnProgress
) -> CrossValidation:
    """Cross-validate the network, the lecture's recipe and the baselines. On Cleveland and 10 x 10 folds: minutes."""
    curves = np.zeros((2, recipe.epochs), np.float32)

    def on_epoch(epoch: int, networks: FoldNetworks) -> None:
        on_progress(NETWORK, epoch, recipe.epochs)
        for k in range(0, len(folds.test), folds.k):  # one fold of each repeat is enough for a smooth curve
            for part, indices in enumerate((folds.train[k], folds.test[k])):
                loss = score("log_loss", target[indices], networks.predict(k, rows[indices]))
                curves[part, epoch - 1] += loss / folds.repeats

    networks = fit_folds(rows, target, folds.train, recipe, on_epoch)
    lecture = recipe.model_copy(update=LECTURE_RECIPE)
    probability = {
        NETWORK: out_of_fold(networks, rows, folds),
        LECTURE: cross_validate(rows, target, lecture, folds, on_progress, LECTURE),
    }
    tables = {", ".join(fields) or "nothing": without_fields(rows, fields) for fields in LACKING}
    lacking: dict[str, dict[str, float]] = {}
    plain = recipe.model_copy(update={"blank": 0})
    for name, table in tables.items():
        retrained = cross_validate(table, target, plain, folds, on_progress, f"{NETWORK}, {name} missing")
        lacking[name] = {
            NETWORK: score("log_loss", target, out_of_fold(networks, table, folds)),
            RETRAINED: score("log_loss", target, retrained),
        }
    for title, baseline in BASELINES.items():
        scored = list(tables.values()) if baseline is logistic_regression else [rows]
        found = np.empty((len(scored), folds.repeats, len(rows)), np.float32)
        pairs = zip(folds.train, folds.test, strict=True)
        parts = [(rows[train], target[train], [table[test] for table in scored]) for train, test in pairs]
        for i, predictions in enumerate(fit_all(baseline, parts, recipe)):
            found[:, i // folds.k, folds.test[i]] = predictions
            on_progress(title, i + 1, len(folds.test))
        probability[title] = found[0]
        if baseline is logistic_regression:
            for name, predicted in zip(tables, found, strict=True):
                lacking[name][title] = score("log_loss", target, predicted)
    return CrossValidation(rows, target, probability, curves, lacking)
