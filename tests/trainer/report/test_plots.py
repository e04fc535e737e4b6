"""Every plot is a small PNG, the same for the same arguments, and shows what its name says."""

import io

import numpy as np
import pytest
from PIL import Image

from patient.record import FIELDS
from tests.trainer.conftest import LOSSES, predict
from trainer.cross_validation import CrossValidation
from trainer.dataset import Dataset
from trainer.fit import Fitted
from trainer.report import plots
from trainer.report.loss_surface import measure_loss_surface

NAMES = ("learning_curves", "roc", "calibration", "confusion", "thresholds", "partial_dependence", "loss_surface")


@pytest.mark.parametrize("name", NAMES)
def test_a_plot_is_a_small_png_without_a_date(name: str, drawn: dict[str, bytes]) -> None:
    """Less than 100 kB, at most 1200 pixels wide, and nothing in it but the picture."""
    plot = drawn[f"{name}.png"]
    with Image.open(io.BytesIO(plot)) as image:
        image.verify()
        assert image.format == "PNG"
        assert 600 <= image.width <= 1200
        assert not image.info
    assert len(plot) < 100_000


def test_a_plot_drawn_again_is_the_same_bytes(drawn: dict[str, bytes], validation: CrossValidation) -> None:
    """A card made again differs only where something is different; the bootstrap is seeded."""
    probability = validation.probability["network"]
    assert tuple(name.removesuffix(".png") for name in drawn) == NAMES
    assert plots.thresholds(validation.target, probability, 0.5) == drawn["thresholds.png"]
    assert plots.loss_surface(LOSSES) == drawn["loss_surface.png"]
    assert plots.thresholds(validation.target, probability, 0.4) != drawn["thresholds.png"]


def test_a_constant_prediction_can_be_drawn(validation: CrossValidation) -> None:
    """The majority class is a model too: one repeat, and everybody tied."""
    constant = np.full((1, len(validation.target)), 0.46, np.float32)
    assert plots.roc(validation.target, constant, 0.5)
    assert plots.calibration(validation.target, constant)


def test_rates_at_each_threshold_are_shares_of_the_patients(validation: CrossValidation) -> None:
    """From 0 everybody is called diseased, above 1 nobody; in between it is the share over patients and repeats."""
    probability = validation.probability["network"]
    found = plots.rates(validation.target, probability, 1)
    assert found[:, 0] == pytest.approx(1)
    assert found[:, -1] == pytest.approx(0)
    assert found[0, 100] == pytest.approx((probability[:, validation.target == 1] >= 0.5).mean())
    assert np.all(np.diff(found[0]) <= 0)


def test_partial_dependence_is_the_mean_over_all_patients(validation: CrossValidation) -> None:
    """A worked example: if all were men, the mean prediction is a quarter more than if all were women."""
    female, male = plots.effect(predict, validation.rows, FIELDS.index("sex")).means
    age = validation.rows[:, FIELDS.index("age")].mean()
    assert (female, male) == pytest.approx((age / 200, age / 200 + 0.25), abs=1e-6)


def test_partial_dependence_stays_where_patients_are(validation: CrossValidation) -> None:
    """No code that nobody has, no extreme ages; and what the model says when a measurement was not taken."""
    chest_pain = plots.effect(predict, validation.rows, FIELDS.index("cp"))
    assert chest_pain.values[:-1].tolist() == [1, 2, 3, 4]
    assert np.isnan(chest_pain.values[-1])
    age = plots.effect(predict, validation.rows, FIELDS.index("age"))
    assert validation.rows[:, 0].min() < age.values.min() < age.values.max() < validation.rows[:, 0].max()
    assert not np.isnan(age.values).any()


def test_the_centre_of_the_loss_surface_is_the_networks_own_loss(fitted: Fitted, cleveland: Dataset) -> None:
    """There it is the network's own loss; around it is seeded; the network itself stays as it was."""
    before = fitted.predict(cleveland.rows)
    losses = measure_loss_surface(fitted, cleveland.rows, cleveland.target, steps=5)
    assert losses.shape == (5, 5)
    log_loss = -np.log(np.where(cleveland.target == 1, before, 1 - before)).mean()
    assert losses[2, 2] == pytest.approx(log_loss, abs=1e-5)
    assert losses[0, 0] > losses[2, 2]
    assert np.array_equal(losses, measure_loss_surface(fitted, cleveland.rows, cleveland.target, steps=5))
    assert np.array_equal(before, fitted.predict(cleveland.rows))
