"""Metrics of probabilistic predictions. They know a target and probabilities, and nothing of what made them."""

import numpy as np

from patient.encoding import Floats


def log_loss(target: Floats, probability: Floats) -> float:
    """Mean negative log-likelihood in nats; lower is better, ln 2 is a coin."""
    p = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(target == 1, np.log(p), np.log1p(-p))))


def auc(target: Floats, probability: Floats) -> float:
    """Area under the ROC curve: how often a diseased patient scores above a healthy one, ties counted half."""
    order = np.unique(probability, return_inverse=True)[1]  # equal scores get one number
    counts = np.bincount(order)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[order]  # ties share their mean rank
    positives = target == 1
    n1, n0 = positives.sum(), (~positives).sum()
    return float((ranks[positives].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def accuracy(target: Floats, probability: Floats, threshold: float = 0.5) -> float:
    """Share of patients on the right side of the threshold."""
    return float(np.mean((probability >= threshold) == (target == 1)))


def brier(target: Floats, probability: Floats) -> float:
    """Brier score: mean squared difference between probability and outcome; lower is better, 0.25 is a coin."""
    return float(np.mean((probability.astype(np.float64) - target) ** 2))


def calibration_error(target: Floats, probability: Floats, bins: int = 10) -> float:
    """Expected calibration error over bins of equal width: mean gap between predicted and observed rate."""
    bin_of = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_of, weights=probability.astype(np.float64) - target, minlength=bins)
    return float(np.abs(gaps).sum() / len(target))


def sensitivity(target: Floats, probability: Floats, threshold: float = 0.5) -> float:
    """Share of the diseased whom the threshold finds."""
    return float(np.mean(probability[target == 1] >= threshold))


def specificity(target: Floats, probability: Floats, threshold: float = 0.5) -> float:
    """Share of the healthy whom the threshold clears."""
    return float(np.mean(probability[target == 0] < threshold))


def scores(target: Floats, probability: Floats, threshold: float = 0.5) -> dict[str, float]:
    """All of the above by name. Both arguments are float32[N]; the target is 0 or 1 and holds both."""
    return {
        "log_loss": log_loss(target, probability),
        "auc": auc(target, probability),
        "accuracy": accuracy(target, probability, threshold),
        "brier": brier(target, probability),
        "ece": calibration_error(target, probability),
        "sensitivity": sensitivity(target, probability, threshold),
        "specificity": specificity(target, probability, threshold),
    }
