"""Repeated stratified k-fold cross-validation of the network and of what it is compared with, on the same folds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patient.encoding import Floats
from patient.record import FIELDS
from trainer.baselines import BASELINES, logistic_regression
from trainer.evaluate import log_loss
from trainer.noise import Recipe
from trainer.report.evidence import Evidence
from trainer.stacked import Stack, fit_folds

NETWORK, LECTURE, RETRAINED = "network", "network, lecture's recipe", "network retrained without them"
LACKING = ((), ("ca", "thal"), ("ca", "thal", "slope"), ("ca", "thal", "slope", "chol"))  # as other hospitals do

Tick = Callable[[str, int, int], None]  # what is fitted, how much of it is done, and of how much


@dataclass(frozen=True)
class Folds:
    """R repeats of k folds: train[i] and test[i] are sorted row indices, fold i belonging to repeat i // k."""

    repeats: int
    k: int
    train: list[NDArray[np.intp]]
    test: list[NDArray[np.intp]]


def stratified_folds(target: Floats, repeats: int, k: int, seed: int) -> Folds:
    """Every repeat deals the rows anew; every fold gets its share of either class."""
    if min(np.bincount(target.astype(int), minlength=2)) < k:
        raise ValueError(f"{k} folds need {k} rows of either class")
    rng = np.random.default_rng(seed)
    test: list[NDArray[np.intp]] = []
    for _ in range(repeats):
        dealt = np.concatenate([rng.permutation(np.flatnonzero(target == label)) for label in (0, 1)])
        fold_of = np.empty(len(target), int)
        fold_of[dealt] = np.arange(len(target)) % k
        test += [np.flatnonzero(fold_of == fold) for fold in range(k)]
    train = [np.setdiff1d(np.arange(len(target)), rows) for rows in test]
    return Folds(repeats, k, train, test)


def blanked(rows: Floats, fields: Sequence[str]) -> Floats:
    """A copy in which these fields are missing."""
    copy = rows.copy()
    copy[:, [FIELDS.index(name) for name in fields]] = np.nan
    return copy


def cross_validate(
    rows: Floats, target: Floats, recipe: Recipe, folds: Folds, tick: Tick, name: str = NETWORK
) -> Stack:
    """Train the recipe's network on every fold, all of them together."""
    return fit_folds(rows, target, folds.train, recipe, lambda epoch, _stack: tick(name, epoch, recipe.epochs))


def held_out(stack: Stack, rows: Floats, folds: Folds) -> Floats:
    """float32[R,N]: what each repeat's networks say of each row, asked of the one that was not trained on it."""
    found = np.empty((folds.repeats, len(rows)), np.float32)
    for i, test in enumerate(folds.test):
        found[i // folds.k, test] = stack.predict(i, rows[test])
    return found


def gather(rows: Floats, target: Floats, recipe: Recipe, folds: Folds, tick: Tick) -> Evidence:
    """Everything that the tables and the model card show. On Cleveland and 10 x 10 folds a few minutes."""
    curves = np.zeros((2, recipe.epochs), np.float32)

    def watch(epoch: int, stack: Stack) -> None:
        tick(NETWORK, epoch, recipe.epochs)
        for k in range(0, len(folds.test), folds.k):  # one fold a repeat draws the curve well enough
            for part, indices in enumerate((folds.train[k], folds.test[k])):
                curves[part, epoch - 1] += log_loss(target[indices], stack.predict(k, rows[indices])) / folds.repeats

    stack = fit_folds(rows, target, folds.train, recipe, watch)
    lecture = recipe.model_copy(update={"l2": 0, "dropout": 0, "blank": 0, "bias": 0, "epochs": 300})
    probability = {
        NETWORK: held_out(stack, rows, folds),
        LECTURE: held_out(cross_validate(rows, target, lecture, folds, tick, LECTURE), rows, folds),
    }
    tables = {", ".join(fields) or "nothing": blanked(rows, fields) for fields in LACKING}
    lacking: dict[str, dict[str, float]] = {name: {} for name in tables}
    plain = recipe.model_copy(update={"blank": 0})
    for name, table in tables.items():
        lacking[name][NETWORK] = mean_loss(target, held_out(stack, table, folds))
        retrained = cross_validate(table, target, plain, folds, tick, f"{NETWORK} without {name}")
        lacking[name][RETRAINED] = mean_loss(target, held_out(retrained, table, folds))
    for title, baseline in BASELINES.items():
        regression = baseline is logistic_regression
        asked = list(tables.values()) if regression else [rows]
        found = np.empty((len(asked), folds.repeats, len(rows)), np.float32)
        for i, (train, test) in enumerate(zip(folds.train, folds.test, strict=True)):
            found[:, i // folds.k, test] = baseline(rows[train], target[train], [table[test] for table in asked])
            tick(title, i + 1, len(folds.test))
        probability[title] = found[0]
        if regression:
            for name, answers in zip(tables, found, strict=True):
                lacking[name]["logistic regression, mean imputation"] = mean_loss(target, answers)
    return Evidence(rows, target, probability, curves, lacking)


def mean_loss(target: Floats, probability: Floats) -> float:
    """Log loss of float32[R,N], mean over the repeats."""
    return float(np.mean([log_loss(target, repeat) for repeat in probability]))
