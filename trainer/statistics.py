"""How sure a score is: its spread over the repeats of a cross-validation, and bootstrap intervals over patients.

A bootstrap draw is a weight for each patient (how often it was drawn), and every metric is written for weighted
patients: thousands of draws are then a few matrix products. A score of R repeats is the mean of the R repeats' scores.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from patient.encoding import Floats
from trainer.evaluate import scores

Doubles = NDArray[np.float64]
METRICS = ("log_loss", "auc", "accuracy", "brier", "ece", "sensitivity", "specificity")
CELLS = 2**22  # weights that are held at once: 32 MB, whatever the size of the table


class Interval(NamedTuple):
    """A value and the 95 % interval around it; NaN where the patients do not tell (a group without a diseased one)."""

    value: float
    low: float
    high: float


def spread(target: Floats, probability: Floats, threshold: float = 0.5) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation over the repeats of every metric; the deviation of one repeat is NaN.

    target: float32[N] of 0 and 1; probability: float32[R,N], out of fold
    """
    repeats = [scores(target, once, threshold) for once in probability]
    values = {name: np.array([found[name] for found in repeats]) for name in METRICS}
    return {name: (float(v.mean()), float(v.std(ddof=1)) if len(v) > 1 else np.nan) for name, v in values.items()}


def interval(
    target: Floats, probability: Floats, metric: str = "log_loss", draws: int = 2000, seed: int = 0,
    threshold: float = 0.5,
) -> Interval:  # fmt: skip
    """One of METRICS with its 95 % percentile interval from a bootstrap over patients.

    target: float32[N] of 0 and 1; probability: float32[R,N], out of fold
    """
    blocks = [weighted(metric, target, probability, w, threshold) for w in weights(len(target), draws, seed)]
    return _interval(np.concatenate(blocks))


def paired_difference(
    target: Floats, a: Floats, b: Floats, metric: str = "log_loss", draws: int = 2000, seed: int = 0,
    threshold: float = 0.5,
) -> Interval:  # fmt: skip
    """The metric of `a` minus that of `b` (float32[R,N] each, same patients) with its 95 % bootstrap interval.

    Every draw scores both models on the same patients: what is hard about a patient is hard for both and cancels.
    """
    blocks = [
        weighted(metric, target, a, w, threshold) - weighted(metric, target, b, w, threshold)
        for w in weights(len(target), draws, seed)
    ]
    return _interval(np.concatenate(blocks))


def weights(patients: int, draws: int, seed: int) -> Iterator[Doubles]:
    """How often each draw holds each patient: float64[D,N] in blocks, the first of them one row of ones."""
    rng = np.random.default_rng(seed)
    yield np.ones((1, patients))
    block = max(1, CELLS // patients)
    for start in range(0, draws, block):
        chosen = rng.integers(patients, size=(min(block, draws - start), patients), dtype=np.int32)
        yield np.stack([np.bincount(row, minlength=patients) for row in chosen]).astype(np.float64)


def weighted(metric: str, target: Floats, probability: Floats, weight: Doubles, threshold: float = 0.5) -> Doubles:
    """The metric in each draw: float32[N], float32[R,N], float64[D,N] to float64[D], the mean over the R repeats.

    NaN in a draw without patients that the metric needs. Raises KeyError for an unknown metric.
    """
    p = probability.astype(np.float64)
    found: Doubles
    with np.errstate(invalid="ignore"):  # 0/0 is the NaN that is promised
        if metric in ("auc", "ece"):
            one = _auc if metric == "auc" else _ece
            found = np.mean([one(target, once, weight) for once in probability], axis=0)
        else:
            clipped = np.clip(p, 1e-7, 1 - 1e-7)
            everybody, positive = np.ones(len(target), bool), probability >= threshold
            value, among = {
                "log_loss": (-np.where(target == 1, np.log(clipped), np.log1p(-clipped)), everybody),
                "accuracy": (positive == (target == 1), everybody),
                "brier": ((p - target) ** 2, everybody),
                "sensitivity": (positive, target == 1),
                "specificity": (~positive, target == 0),
            }[metric]
            found = (weight @ (value.mean(axis=0) * among)) / (weight @ among)
    return found


def _auc(target: Floats, probability: Floats, weight: Doubles) -> Doubles:
    order = np.argsort(probability, kind="stable")
    starts = np.flatnonzero(np.diff(probability[order], prepend=-1))  # where another score begins: ties are one group
    diseased, healthy = (np.add.reduceat((weight * (target == y))[:, order], starts, axis=1) for y in (1, 0))
    below = np.cumsum(healthy, axis=1) - healthy / 2  # ties count half
    area: Doubles = (diseased * below).sum(axis=1) / (diseased.sum(axis=1) * healthy.sum(axis=1))
    return area


def _ece(target: Floats, probability: Floats, weight: Doubles, bins: int = 10) -> Doubles:
    in_bin = np.minimum((probability * bins).astype(int), bins - 1)[:, None] == np.arange(bins)
    gap = probability.astype(np.float64) - target
    error: Doubles = np.abs(weight @ (gap[:, None] * in_bin)).sum(axis=1) / weight.sum(axis=1)
    return error


def _interval(drawn: Doubles) -> Interval:
    known = drawn[1:][~np.isnan(drawn[1:])]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return Interval(float(drawn[0]), float(low), float(high))
