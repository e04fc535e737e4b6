"""The metrics say what their names say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluate import accuracy, auc, brier, calibration_error, log_loss, scores, sensitivity, specificity

Y = np.array([0, 0, 1, 1], np.float32)
P = np.array([0.1, 0.4, 0.35, 0.8], np.float32)


def test_a_worked_example() -> None:
    """Four patients, computed by hand."""
    assert auc(Y, P) == pytest.approx(0.75)
    assert accuracy(Y, P) == 0.75
    assert accuracy(Y, P, threshold=0.35) == 0.75
    assert (sensitivity(Y, P), specificity(Y, P)) == (0.5, 1.0)
    assert (sensitivity(Y, P, threshold=0.35), specificity(Y, P, threshold=0.35)) == (1.0, 0.5)
    assert brier(Y, P) == pytest.approx((0.01 + 0.16 + 0.4225 + 0.04) / 4)
    assert log_loss(Y, P) == pytest.approx(-np.log([0.9, 0.6, 0.35, 0.8]).mean())


def test_certainty_that_is_wrong_costs_much_and_not_infinity() -> None:
    """A probability of 0 for a diseased patient is clipped, so that a mean stays a number."""
    assert 16 < log_loss(np.ones(1, np.float32), np.zeros(1, np.float32)) < 17
    assert log_loss(np.ones(1, np.float32), np.ones(1, np.float32)) == pytest.approx(0, abs=1e-6)


def test_a_constant_prediction() -> None:
    """It ranks nobody, and at the true rate it is perfectly calibrated."""
    constant = np.full(4, 0.5, np.float32)
    expected = {"log_loss": math.log(2), "auc": 0.5, "accuracy": 0.5, "brier": 0.25, "ece": 0.0}
    expected |= {"sensitivity": 1.0, "specificity": 0.0}
    assert scores(Y, constant) == pytest.approx(expected)


def test_calibration_error_is_the_gap_weighted_by_the_bins() -> None:
    """Two bins: three patients at 0.25 of whom one is diseased, one at 1.0 who is healthy."""
    y, p = np.array([0, 0, 1, 0], np.float32), np.array([0.25, 0.25, 0.25, 1.0], np.float32)
    assert calibration_error(y, p) == pytest.approx((abs(0.75 - 1) + 1) / 4)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=40))
def test_auc_counts_pairs(patients: list[tuple[bool, int]]) -> None:
    """Against the definition: the share of pairs in right order, ties counted half."""
    y = np.array([diseased for diseased, _ in patients], np.float32)
    p = np.array([score / 8 for _, score in patients], np.float32)
    if len(set(y)) == 2:
        pairs = [(a, b) for a in p[y == 1] for b in p[y == 0]]
        assert auc(y, p) == pytest.approx(sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs))
