"""How far a network is from a straight line: whether its units bend, and what a logistic regression would answer.

A network whose ReLU units are all on for every patient is a logistic regression: its log-odds are a sum of the 29
encoded inputs, each times a coefficient, and a constant.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patient.encoding import Floats, encode, layout
from patient.record import FIELDS, measurements
from trainer.vectorized_cv import ACTIVATIONS

Doubles = NDArray[np.float64]

LINEAR = 0.002  # largest difference in probability of a network that is called linear
DOMAIN_ROWS, PART_ROWS = 200_000, 10_000
MISSING = 0.1  # share of the made-up values that are missing, where a field may be


@dataclass(frozen=True)
class Gap:
    """Differences in probability between the network and the linear form, over some rows.

    switching: share of the hidden ReLU units that are on for some of these rows and off for others
    """

    rows: int
    switching: float
    largest: float
    percentile_99: float


@dataclass(frozen=True)
class Linearity:
    """How far a network is from linear.

    training, domain: over the training rows, and over made-up rows all over the valid domain
    r2: share of the variance of the log-odds over the training rows that the linear form explains
    coefficients: by encoded input (`age`, `cp = 4`), in log-odds per standard deviation or against none of the codes
    constant: log-odds of a patient with average numbers and none of the codes
    standardisation: mean and standard deviation of each number
    """

    training: Gap
    domain: Gap
    r2: float
    coefficients: dict[str, float]
    constant: float
    standardisation: dict[str, tuple[float, float]]

    @property
    def is_linear(self) -> bool:
        return max(self.training.largest, self.domain.largest) <= LINEAR


def measure_linearity(weights: list[Floats], mean: Floats, std: Floats, activation: str, rows: Floats) -> Linearity:
    """Compare a network with the best linear form of its inputs.

    The form is the least-squares fit of the log-odds over made-up rows of the valid domain, weighted by p(1-p), so that
    differences in probability count.

    weights: kernel, bias, kernel, ... from inputs to probability; mean and std: float32[5] of the encoding
    rows: float32[N,13], NaN = missing, that the network was trained on
    """
    network = _Network(weights, mean, std, activation)
    inputs, trained = network.inputs(domain_rows(DOMAIN_ROWS)), network.inputs(rows)
    form = _best_form(inputs, network.log_odds(inputs)[0])
    log_odds, _ = network.log_odds(trained)
    left = np.var(log_odds - trained @ form) / max(np.var(log_odds), np.finfo(float).tiny)
    return Linearity(
        _gap(network, trained, form),
        _gap(network, inputs, form),
        float(1 - left),
        dict(zip(input_names(), form[:-1].tolist(), strict=True)),
        float(form[-1]),
        {FIELDS[i]: (float(m), float(s)) for i, m, s in zip(layout().numeric, mean, std, strict=True)},
    )


def domain_rows(count: int) -> Floats:
    """Make up rows all over the valid domain, float32[count,13], seeded: uniform numbers and codes, some missing."""
    rng = np.random.default_rng(0)
    rows = np.empty((count, len(FIELDS)), np.float32)
    for i, field in enumerate(measurements()):
        codes = list(field.codes)
        rows[:, i] = rng.choice(codes, count) if codes else rng.uniform(field.low, field.high, count)
        if field.nullable:
            rows[rng.random(count) < MISSING, i] = np.nan
    return rows


def input_names() -> list[str]:
    """Name the 29 encoded inputs: `age`, `cp = 4`."""
    columns = layout()
    return [FIELDS[i] for i in columns.numeric] + [
        f"{FIELDS[i]} = {code:g}" for i, code in zip(columns.onehot, columns.codes, strict=True)
    ]


class _Network:
    """A network in float64: probabilities near 0 and 1 have no exact log-odds in float32."""

    def __init__(self, weights: list[Floats], mean: Floats, std: Floats, activation: str) -> None:
        doubles = [weight.astype(float) for weight in weights]
        self.layers = list(zip(doubles[::2], doubles[1::2], strict=True))
        self.mean, self.std, self.activation = mean, std, activation

    def inputs(self, rows: Floats) -> Doubles:
        """The encoded inputs and a column of ones, float64[N,30]."""
        return np.column_stack([encode(rows, self.mean, self.std), np.ones(len(rows))]).astype(float)

    def log_odds(self, inputs: Doubles) -> tuple[Doubles, float]:
        """The log-odds, float64[N], and the share of ReLU units that are on in some rows and off in others."""
        parts = [self._run(inputs[start : start + PART_ROWS]) for start in range(0, len(inputs), PART_ROWS)]
        switches = np.any([on for _, on, _ in parts], axis=0) & np.any([off for *_, off in parts], axis=0)
        return np.concatenate([part for part, *_ in parts]), float(switches.mean()) if switches.size else 0.0

    def _run(self, outputs: NDArray[Any]) -> tuple[Doubles, NDArray[np.bool_], NDArray[np.bool_]]:
        """The log-odds of some rows, and which ReLU units are on, and which are off, in any of them."""
        outputs, on, off = outputs[:, :-1], list[bool](), list[bool]()
        activate: Callable[[Any], Any] = ACTIVATIONS[self.activation][0]
        for kernel, bias in self.layers[:-1]:
            sums = outputs @ kernel + bias
            if self.activation == "relu":
                on += (sums > 0).any(axis=0).tolist()
                off += (sums < 0).any(axis=0).tolist()
            outputs = activate(sums)
        kernel, bias = self.layers[-1]
        return (outputs @ kernel + bias)[:, 0], np.array(on, bool), np.array(off, bool)


def _best_form(inputs: Doubles, log_odds: Doubles) -> Doubles:
    """Coefficients and constant, float64[30]."""
    weight = np.sqrt(np.maximum(_sigmoid(log_odds) * _sigmoid(-log_odds), 1e-6))
    found, *_ = np.linalg.lstsq(inputs * weight[:, None], log_odds * weight)
    return found.astype(np.float64)


def _gap(network: _Network, inputs: Doubles, form: Doubles) -> Gap:
    log_odds, switching = network.log_odds(inputs)
    difference = np.abs(_sigmoid(log_odds) - _sigmoid(inputs @ form))
    return Gap(len(difference), switching, float(difference.max()), float(np.quantile(difference, 0.99)))


def _sigmoid(log_odds: Doubles) -> Doubles:
    found: Doubles = 1 / (1 + np.exp(-log_odds))
    return found
