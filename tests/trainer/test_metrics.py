"""Metrics, their spread over repeats, and intervals that resample patients."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, recall_score, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from trainer.metrics import METRICS, interval, score, scores, spread, weighted, weights

RNG = np.random.default_rng(0)
Y = (RNG.random(120) < 0.45).astype(np.float32)
P = np.clip(Y * 0.3 + 0.7 * RNG.random((3, 120)), 0.02, 0.98).astype(np.float32).round(2)  # rounded: with ties
FOUR_Y = np.array([0, 0, 1, 1], np.float32)
FOUR_P = np.array([0.1, 0.4, 0.35, 0.8], np.float32)


def test_scores_of_four_patients_are_those_computed_by_hand() -> None:
    """All seven, at two thresholds."""
    expected = {"auc": 0.75, "accuracy": 0.75, "sensitivity": 0.5, "specificity": 1.0}
    expected |= {"brier": (0.01 + 0.16 + 0.4225 + 0.04) / 4, "log_loss": -np.log([0.9, 0.6, 0.35, 0.8]).mean()}
    expected |= {"ece": (0.1 + 0.4 + 0.65 + 0.2) / 4}  # each patient has a bin of their own
    assert scores(FOUR_Y, FOUR_P) == pytest.approx(expected)
    lower = scores(FOUR_Y, FOUR_P, threshold=0.35)
    assert (lower["accuracy"], lower["sensitivity"], lower["specificity"]) == (0.75, 1.0, 0.5)


@pytest.mark.parametrize(("probability", "bits"), [(1 / 1000, 9.97), (1 / 10, 3.32), (1 / 2, 1.0)])
def test_the_loss_of_a_diseased_patient_is_the_lectures(probability: float, bits: float) -> None:
    """Cross-entropy for y = 1; the lecture counts in bits, training in nats."""
    one, p = np.ones(1, np.float32), np.array([probability], np.float32)
    assert score("log_loss", one, p) / math.log(2) == pytest.approx(bits, abs=0.005)


def test_certainty_that_is_wrong_costs_much_and_not_infinity() -> None:
    """A probability of 0 for a diseased patient is clipped, so that a mean stays a number."""
    assert 16 < score("log_loss", np.ones(1, np.float32), np.zeros(1, np.float32)) < 17
    assert score("log_loss", np.ones(1, np.float32), np.ones(1, np.float32)) == pytest.approx(0, abs=1e-6)


def test_a_constant_prediction_has_no_skill() -> None:
    """It ranks nobody, and at the true rate it is perfectly calibrated."""
    expected = {"log_loss": math.log(2), "auc": 0.5, "accuracy": 0.5, "brier": 0.25, "ece": 0.0}
    expected |= {"sensitivity": 1.0, "specificity": 0.0}
    assert scores(FOUR_Y, np.full(4, 0.5, np.float32)) == pytest.approx(expected)


def test_calibration_error_is_the_gap_weighted_by_the_bins() -> None:
    """Two bins: three patients at 0.25 of whom one is diseased, one at 1.0 who is healthy."""
    y, p = np.array([0, 0, 1, 0], np.float32), np.array([0.25, 0.25, 0.25, 1.0], np.float32)
    assert score("ece", y, p) == pytest.approx((abs(0.75 - 1) + 1) / 4)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=40))
def test_auc_counts_pairs(patients: list[tuple[bool, int]]) -> None:
    """Against the definition: the share of pairs in right order, ties counted half."""
    y = np.array([diseased for diseased, _ in patients], np.float32)
    p = np.array([eighths / 8 for _, eighths in patients], np.float32)
    if len(set(y)) == 2:
        pairs = [(a, b) for a in p[y == 1] for b in p[y == 0]]
        assert score("auc", y, p) == pytest.approx(sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs))


def test_spread_is_mean_and_deviation_over_the_repeats() -> None:
    """A worked example: accuracies 1 and 0.5 are 0.75 +- 0.354; one repeat has no deviation."""
    y = np.array([0, 1], np.float32)
    p = np.array([[0.1, 0.9], [0.1, 0.2]], np.float32)
    assert spread(y, p)["accuracy"] == pytest.approx((0.75, math.sqrt(0.125)))
    assert spread(y, p)["sensitivity"] == pytest.approx((0.5, math.sqrt(0.5)))
    assert math.isnan(spread(y, p[:1])["auc"][1])
    assert list(spread(y, p)) == list(METRICS) == list(scores(y, p[0]))


@pytest.mark.parametrize("metric", METRICS)
def test_a_weighted_score_is_the_score_of_the_patients_drawn(metric: str) -> None:
    """Drawing a patient twice is weighing it 2; the mean over the repeats is taken."""
    weight = np.concatenate(list(weights(len(Y), 5, seed=3)))
    found = weighted(metric, Y, P, weight, threshold=0.4)
    for value, row in zip(found, weight, strict=True):
        drawn = np.repeat(np.arange(len(Y)), row.astype(int))
        assert value == pytest.approx(np.mean([scores(Y[drawn], once[drawn], 0.4)[metric] for once in P]), abs=1e-6)


@pytest.mark.parametrize("weighting", ["none", "bootstrap"])
def test_the_scores_are_those_of_scikit_learn(weighting: str) -> None:
    """Another implementation, with and without weights."""
    w = next(iter(weights(len(Y), 1, seed=1)))
    if weighting == "bootstrap":
        w = w * np.arange(1, len(Y) + 1)
    p = P[0].astype(np.float64)
    positive, sample = p >= 0.4, {"sample_weight": w[0]}
    theirs = {
        "log_loss": sklearn_log_loss(Y, p, **sample),
        "auc": roc_auc_score(Y, p, **sample),
        "accuracy": accuracy_score(Y, positive, **sample),
        "brier": brier_score_loss(Y, p, **sample),
        "sensitivity": recall_score(Y, positive, **sample),
        "specificity": recall_score(Y, positive, pos_label=0, **sample),
    }
    for metric, expected in theirs.items():
        assert weighted(metric, Y, p[None], w, threshold=0.4)[0] == pytest.approx(expected, abs=1e-12)
        if weighting == "none":
            assert scores(Y, p, threshold=0.4)[metric] == pytest.approx(expected, abs=1e-12)


def test_an_interval_is_that_of_the_normal_approximation_where_it_holds() -> None:
    """The share of 400 patients who are right, 0.8, has the 95 % interval 0.8 +- 1.96 * sqrt(0.8 * 0.2 / 400)."""
    y = np.tile(np.array([0, 1], np.float32), 200)
    p = np.where(np.arange(400) < 320, y, 1 - y)[None].astype(np.float32)
    half = 1.96 * math.sqrt(0.8 * 0.2 / 400)
    assert interval(y, p, "accuracy") == pytest.approx((0.8, 0.8 - half, 0.8 + half), abs=0.006)


def test_a_paired_difference_cancels_what_is_hard_for_both_models() -> None:
    """Equal models differ by nothing, for sure; a model that is always a bit better is so in every draw."""
    assert interval(Y, P, reference=P, draws=50) == (0, 0, 0)
    better = np.where(Y == 1, P + 0.01, P - 0.01).astype(np.float32)
    difference = interval(Y, better, reference=P, draws=200)
    alone = interval(Y, P, draws=200)
    assert difference.low < difference.value < difference.high < 0
    assert difference.high - difference.low < (alone.high - alone.low) / 5


def test_draws_are_seeded() -> None:
    """Same seed, same interval."""
    assert interval(Y, P, draws=50, seed=1) == interval(Y, P, draws=50, seed=1)
    assert interval(Y, P, draws=50, seed=1) != interval(Y, P, draws=50, seed=2)


def test_an_undefined_metric_is_nan() -> None:
    """Nobody is diseased: no sensitivity and no AUC, but a specificity."""
    healthy = np.zeros(5, np.float32)
    p = np.full((2, 5), 0.1, np.float32)
    assert all(math.isnan(value) for value in (*interval(healthy, p, "auc"), *interval(healthy, p, "sensitivity")))
    assert interval(healthy, p, "specificity", draws=20) == (1, 1, 1)


def test_a_big_table_is_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, and the draws are the same ones."""
    whole = interval(Y, P, draws=20)
    monkeypatch.setattr("trainer.metrics.MAX_WEIGHTS", 7 * len(Y))
    assert [len(block) for block in weights(len(Y), 20, seed=0)] == [1, 7, 7, 6]
    assert interval(Y, P, draws=20) == pytest.approx(whole)
