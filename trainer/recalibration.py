"""Recalibrate a finished model to the patients of another place: move its log-odds along a line.

With few patients a line that is fitted freely does harm: 20 of nearly one class give a slope of hundreds, and a model
that answers 0 or 1. So intercept and slope have normal priors around the model as it is, the slope stays 1 below 100
patients, and nothing is offered that a bootstrap over the patients does not show to be better.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import KFold

from patient.encoding import Floats
from trainer.metrics import Doubles, Interval, interval

LEAST = 20  # patients for an intercept
LEAST_FOR_SLOPE, LEAST_OF_A_CLASS = 100, 20  # patients, and those of either class, for a slope
SHIFT_DEVIATION, SLOPE_DEVIATION = 1.0, 0.3  # of the priors N(0, 1) and N(1, 0.3)
SLOPES = 0.3, 2.0  # no slope is outside


class Line(NamedTuple):
    """New log-odds = intercept + slope * old log-odds."""

    intercept: float = 0.0
    slope: float = 1.0


@dataclass(frozen=True)
class Offer:
    """What a recalibration to these patients would bring.

    probability: float32[N], each patient's by a line that was fitted to the others, in ten folds
    gain: the change in log loss that these bring, with its 95 % interval; below 0 is better
    """

    line: Line
    probability: Floats
    gain: Interval

    @property
    def is_better(self) -> bool:
        return self.gain.high < 0


def offer(odds: Doubles, target: Floats) -> Offer | None:
    """Fit the line to log-odds, float64[N], and outcomes, float32[N]; None for fewer than LEAST patients."""
    if len(target) < LEAST:
        return None
    moved = np.empty(len(target), np.float32)
    for train, test in KFold(10, shuffle=True, random_state=0).split(odds):
        moved[test] = apply(fit_line(odds[train], target[train]), odds[test])
    return Offer(fit_line(odds, target), moved, interval(target, moved[None], reference=apply(Line(), odds)[None]))


def fit_line(odds: Doubles, target: Floats) -> Line:
    """The most probable line under the priors, by Newton's method; its objective is convex."""
    smaller_class = min(target.sum(), len(target) - target.sum())
    has_slope = len(target) >= LEAST_FOR_SLOPE and smaller_class >= LEAST_OF_A_CLASS
    inputs = np.column_stack([np.ones(len(odds)), odds]) if has_slope else np.ones((len(odds), 1))
    precision = np.array([SHIFT_DEVIATION, SLOPE_DEVIATION])[: inputs.shape[1]] ** -2.0
    change = np.zeros(inputs.shape[1])  # from the line (0, 1)
    for _ in range(100):
        p = _sigmoid(odds + inputs @ change)
        gradient = inputs.T @ (p - target) + precision * change
        hessian = (inputs * (p * (1 - p))[:, None]).T @ inputs + np.diag(precision)
        step = np.linalg.solve(hessian, gradient)
        change -= step * min(1, 1 / np.abs(step).max(initial=1))
        if np.abs(step).max() < 1e-9:
            break
    return Line(float(change[0]), float(np.clip(1 + change[1], *SLOPES)) if has_slope else 1.0)


def apply(line: Line, odds: Doubles) -> Floats:
    """Probabilities, float32[N]."""
    return _sigmoid(line.intercept + line.slope * odds).astype(np.float32)


def _sigmoid(log_odds: Doubles) -> Doubles:
    found: Doubles = 1 / (1 + np.exp(-log_odds))
    return found
