"""Metrics of probabilistic predictions, their spread over the repeats of a cross-validation, and bootstrap intervals.

A bootstrap draw is a weight for each patient (how often it was drawn), and every metric is written once, for weighted
patients: thousands of draws are then a few matrix products. The metric of R repeats is the mean over the repeats.

    log_loss     mean negative log-likelihood in nats; lower is better, a constant 0.5 scores ln 2 = 0.693
    auc          area under the ROC curve: how often a diseased patient scores above a healthy one, ties counted half
    accuracy     share of patients on the right side of the threshold
    brier        mean squared difference between probability and outcome; lower is better, 0.5 scores 0.25
    ece          expected calibration error over 10 bins of equal width: mean gap between predicted and observed rate
    sensitivity  share of the diseased at or above the threshold
    specificity  share of the healthy below the threshold

Arguments: target float32[N] of 0 and 1; probability float32[R,N], the out-of-fold predictions of R repeats.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from patient.encoding import Floats

Doubles = NDArray[np.float64]
METRICS = {  # with their titles in tables
    "log_loss": "log loss",
    "auc": "AUC",
    "accuracy": "accuracy",
    "brier": "Brier score",
    "ece": "ECE",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}
MAX_WEIGHTS = 2**22  # held at once: 32 MB, whatever the size of the table


class Interval(NamedTuple):
    """A value and its 95 % interval; NaN where undefined, such as sensitivity in a group of healthy patients."""

    value: float
    low: float
    high: float


def score(metric: str, target: Floats, probability: Floats, threshold: float = 0.5) -> float:
    """Compute one of METRICS; probability: float32[N] or float32[R,N]."""
    ones = np.ones((1, len(target)))
    return float(weighted(metric, target, np.atleast_2d(probability), ones, threshold)[0])


def scores(target: Floats, probability: Floats, threshold: float = 0.5) -> dict[str, float]:
    """Compute all METRICS; see `score`."""
    return {metric: score(metric, target, probability, threshold) for metric in METRICS}


def spread(target: Floats, probability: Floats, threshold: float = 0.5) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of every metric over the repeats; the deviation of a single repeat is NaN."""
    values = {name: np.array([score(name, target, once, threshold) for once in probability]) for name in METRICS}
    return {name: (float(v.mean()), float(v.std(ddof=1)) if len(v) > 1 else np.nan) for name, v in values.items()}


def interval(
    target: Floats,
    probability: Floats,
    metric: str = "log_loss",
    threshold: float = 0.5,
    reference: Floats | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """One of METRICS with its 95 % percentile interval from a bootstrap over patients.

    reference: another model's predictions of the same patients, float32[R,N], whose metric is subtracted. Every draw
    scores both models on the same patients, so what is hard about a patient cancels.
    """
    blocks = []
    for weight in weights(len(target), draws, seed):
        found = weighted(metric, target, probability, weight, threshold)
        blocks.append(found if reference is None else found - weighted(metric, target, reference, weight, threshold))
    value, *drawn = np.concatenate(blocks)
    known = np.array(drawn)[~np.isnan(drawn)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))


def weights(patients: int, draws: int, seed: int) -> Iterator[Doubles]:
    """Yield how often each draw holds each patient: float64[D,N] in blocks, the first of them one row of ones."""
    rng = np.random.default_rng(seed)
    yield np.ones((1, patients))
    block = max(1, MAX_WEIGHTS // patients)
    for start in range(0, draws, block):
        chosen = rng.integers(patients, size=(min(block, draws - start), patients), dtype=np.int32)
        yield np.stack([np.bincount(row, minlength=patients) for row in chosen]).astype(np.float64)


def weighted(metric: str, target: Floats, probability: Floats, weight: Doubles, threshold: float = 0.5) -> Doubles:
    """The metric in each draw, float64[D], for weights float64[D,N]; NaN where the patients that it needs are missing.

    Raises KeyError for an unknown metric.
    """
    p = probability.astype(np.float64)
    found: Doubles
    with np.errstate(invalid="ignore"):  # 0/0 is the promised NaN
        if metric in ("auc", "ece"):
            one = _auc if metric == "auc" else _ece
            found = np.mean([one(target, once, weight) for once in probability], axis=0)
        else:
            clipped = np.clip(p, 1e-7, 1 - 1e-7)  # a certain prediction that is wrong costs 16 nats, not infinity
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


def _ece(target: Floats, probability: Floats, weight: Doubles) -> Doubles:
    in_bin = np.minimum((probability * 10).astype(int), 9)[:, None] == np.arange(10)
    gap = probability.astype(np.float64) - target
    error: Doubles = np.abs(weight @ (gap[:, None] * in_bin)).sum(axis=1) / weight.sum(axis=1)
    return error
