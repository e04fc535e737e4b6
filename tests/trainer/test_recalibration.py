"""Recalibration helps where a model is wrong, and does next to no harm where it is right."""

import numpy as np
import pytest

from patient.encoding import Floats
from trainer.cross_validation import cross_validate, stratified_folds
from trainer.dataset import Dataset
from trainer.external_validation import calibration_intercept, logit
from trainer.metrics import Doubles, score
from trainer.recalibration import Line, apply, fit_line, offer
from trainer.recipe import Recipe

DRAWS = 300


@pytest.fixture(scope="module")
def odds(cleveland: Dataset) -> Doubles:
    """Log-odds of patients that the network was not trained on."""
    folds = stratified_folds(cleveland.target, 1, 10, 0)
    return logit(cross_validate(cleveland.rows, cleveland.target, Recipe(), folds, lambda *_: None)[0])


def changes(odds: Doubles, target: Floats, diseased: float, patients: int) -> Doubles:
    """The change in a site's log loss by lines that are fitted to so many of its patients, in each of DRAWS draws."""
    rng = np.random.default_rng(0)
    weight = np.where(target == 1, diseased / target.sum(), (1 - diseased) / (1 - target).sum())
    site = rng.choice(len(odds), 20_000, p=weight)
    before = score("log_loss", target[site], apply(Line(), odds[site]))
    found = []
    for _ in range(DRAWS):
        drawn = rng.choice(len(odds), patients, p=weight)
        line = fit_line(odds[drawn], target[drawn])
        assert 0.3 <= line.slope <= 2
        found.append(score("log_loss", target[site], apply(line, odds[site])) - before)
    return np.array(found)


def test_twenty_patients_of_a_site_with_94_percent_diseased_gain_much(odds: Doubles, cleveland: Dataset) -> None:
    found = changes(odds, cleveland.target, 0.94, 20)
    assert found.mean() < -0.19
    assert (found > 0).mean() == 0


@pytest.mark.parametrize(("patients", "most"), [(20, 0.02), (150, 0.01)])
def test_little_is_lost_where_nothing_is_to_gain(odds: Doubles, cleveland: Dataset, patients: int, most: float) -> None:
    assert changes(odds, cleveland.target, 0.46, patients).mean() < most


def test_a_model_that_says_too_much_gains_with_few_patients(odds: Doubles, cleveland: Dataset) -> None:
    """A site with 36 % diseased, where the log-odds are too high by 1 for other reasons too."""
    found = changes(odds + 0.6, cleveland.target, 0.36, 20)
    assert found.mean() < -0.01
    assert (found > 0).mean() < 0.2


@pytest.mark.parametrize("diseased", [0, 1, 19])
def test_patients_of_nearly_one_class_do_not_make_a_model_that_is_certain(odds: Doubles, diseased: int) -> None:
    """Fitted freely, 20 such patients gave a slope of 296."""
    target = (np.arange(20) < diseased).astype(np.float32)
    line = fit_line(np.sort(odds)[::-15][:20], target)
    assert line.slope == 1
    assert abs(line.intercept) < 3.5


def test_the_slope_needs_100_patients_and_20_of_either_class(odds: Doubles, cleveland: Dataset) -> None:
    target = cleveland.target
    assert fit_line(odds[:99], target[:99]).slope == 1
    assert fit_line(odds[:100], target[:100]).slope != 1
    rare = np.flatnonzero(target == 0).tolist() + np.flatnonzero(target == 1)[:19].tolist()
    assert fit_line(odds[rare], target[rare]).slope == 1
    assert (
        0.3
        <= fit_line(odds * 100, target).slope
        < fit_line(odds, target).slope
        < fit_line(odds / 100, target).slope
        <= 2
    )


def test_an_offer_needs_twenty_patients_and_a_gain_that_shows(odds: Doubles, cleveland: Dataset) -> None:
    assert offer(odds[:19], cleveland.target[:19]) is None
    same, wrong = offer(odds, cleveland.target), offer(odds + 2, cleveland.target)
    assert same
    assert wrong
    assert (same.is_better, wrong.is_better) == (False, True)
    assert calibration_intercept(odds + 2, cleveland.target) < wrong.line.intercept < -1


def test_a_constant_model_has_a_calibration_intercept(cleveland: Dataset) -> None:
    """The observed log-odds; Newton's steps divided by zero where the model was certain."""
    share = float(cleveland.target.mean())
    for constant in (-30.0, 0.0, 16.0):
        found = calibration_intercept(np.full(303, constant), cleveland.target)
        assert found == pytest.approx(np.log(share / (1 - share)) - constant, abs=1e-6)
