"""The spread of a score, and intervals that resample patients."""

import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from trainer.evaluate import scores
from trainer.statistics import METRICS, interval, paired_difference, spread, weighted, weights

RNG = np.random.default_rng(0)
Y = (RNG.random(120) < 0.45).astype(np.float32)
P = np.clip(Y * 0.3 + 0.7 * RNG.random((3, 120)), 0.02, 0.98).astype(np.float32).round(2)  # rounded: with ties


def test_spread_is_mean_and_deviation_over_the_repeats() -> None:
    """A worked example: accuracies 1 and 0.5 are 0.75 +- 0.354; one repeat has no deviation."""
    y = np.array([0, 1], np.float32)
    p = np.array([[0.1, 0.9], [0.1, 0.2]], np.float32)
    assert spread(y, p)["accuracy"] == pytest.approx((0.75, math.sqrt(0.125)))
    assert spread(y, p)["sensitivity"] == pytest.approx((0.5, math.sqrt(0.5)))
    assert math.isnan(spread(y, p[:1])["auc"][1])
    assert tuple(spread(y, p)) == METRICS == tuple(scores(y, p[0]))


@pytest.mark.parametrize("metric", METRICS)
def test_a_weighted_score_is_the_score_of_the_patients_drawn(metric: str) -> None:
    """Drawing a patient twice is weighing it 2; the mean over the repeats is taken."""
    weight = np.concatenate(list(weights(len(Y), 5, seed=3)))
    found = weighted(metric, Y, P, weight, threshold=0.4)
    for value, row in zip(found, weight, strict=True):
        drawn = np.repeat(np.arange(len(Y)), row.astype(int))
        assert value == pytest.approx(np.mean([scores(Y[drawn], once[drawn], 0.4)[metric] for once in P]), abs=1e-6)


def test_the_scores_are_those_of_scikit_learn() -> None:
    """Another implementation, with weights."""
    w = next(iter(weights(len(Y), 1, seed=1))) * np.arange(1, len(Y) + 1)
    p = P[0].astype(np.float64)
    assert weighted("auc", Y, P[:1], w)[0] == pytest.approx(roc_auc_score(Y, p, sample_weight=w[0]))
    assert weighted("brier", Y, P[:1], w)[0] == pytest.approx(brier_score_loss(Y, p, sample_weight=w[0]))
    assert weighted("log_loss", Y, P[:1], w)[0] == pytest.approx(sklearn_log_loss(Y, p, sample_weight=w[0]))


def test_an_interval_is_that_of_the_normal_approximation_where_it_holds() -> None:
    """The share of 400 patients who are right, 0.8, has the 95 % interval 0.8 +- 1.96 * sqrt(0.8 * 0.2 / 400)."""
    y = np.tile(np.array([0, 1], np.float32), 200)
    p = np.where(np.arange(400) < 320, y, 1 - y)[None].astype(np.float32)
    half = 1.96 * math.sqrt(0.8 * 0.2 / 400)
    assert interval(y, p, "accuracy") == pytest.approx((0.8, 0.8 - half, 0.8 + half), abs=0.006)


def test_a_paired_difference_knows_that_patients_are_the_same() -> None:
    """Equal models differ by nothing, for sure; a model that is always a bit better is so in every draw."""
    assert paired_difference(Y, P, P, draws=50) == (0, 0, 0)
    better = np.where(Y == 1, P + 0.01, P - 0.01).astype(np.float32)
    difference = paired_difference(Y, better, P, draws=200)
    alone = interval(Y, P, draws=200)
    assert difference.low < difference.value < difference.high < 0
    assert difference.high - difference.low < (alone.high - alone.low) / 5


def test_draws_are_seeded() -> None:
    """Same seed, same interval."""
    assert interval(Y, P, draws=50, seed=1) == interval(Y, P, draws=50, seed=1)
    assert interval(Y, P, draws=50, seed=1) != interval(Y, P, draws=50, seed=2)


def test_what_the_patients_do_not_tell_is_nan() -> None:
    """Nobody is diseased: no sensitivity and no AUC, but a specificity."""
    healthy = np.zeros(5, np.float32)
    p = np.full((2, 5), 0.1, np.float32)
    assert all(math.isnan(value) for value in (*interval(healthy, p, "auc"), *interval(healthy, p, "sensitivity")))
    assert interval(healthy, p, "specificity", draws=20) == (1, 1, 1)


def test_a_big_table_is_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, and the draws are the same ones."""
    whole = interval(Y, P, draws=20)
    monkeypatch.setattr("trainer.statistics.CELLS", 7 * len(Y))
    assert [len(block) for block in weights(len(Y), 20, seed=0)] == [1, 7, 7, 6]
    assert interval(Y, P, draws=20) == pytest.approx(whole)
