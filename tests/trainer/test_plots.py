"""Every plot is a small PNG, the same for the same arguments, and shows what its name says."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from patient.encoding import Floats
from patient.record import FIELDS
from trainer import effects, plots
from trainer.dataset import Dataset
from trainer.evidence import Evidence
from trainer.fit import Fitted
from trainer.surface import surface

LOSSES = np.hypot(*np.meshgrid(np.linspace(-1, 1, 21), np.linspace(-1, 1, 21))).astype(np.float32) + 0.3

PLOTS: dict[str, Callable[[Evidence, Floats], bytes]] = {
    "learning curves": lambda e, _: plots.learning_curves(e.learning),
    "roc": lambda e, p: plots.roc(e.target, p, 0.5),
    "calibration": lambda e, p: plots.calibration(e.target, p),
    "confusion": lambda e, p: plots.confusion(e.target, p, 0.5),
    "thresholds": lambda e, p: plots.thresholds(e.target, p, 0.5),
    "loss surface": lambda _e, _p: plots.loss_surface(LOSSES),
    "partial dependence": lambda e, _: effects.partial_dependence(predict, e.rows),
}


def predict(rows: Floats) -> Floats:
    """Rises with age, and is higher for men."""
    probability: Floats = rows[:, FIELDS.index("age")] / np.float32(200) + rows[:, FIELDS.index("sex")] / np.float32(4)
    return probability


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_a_small_png_without_a_date(name: str, evidence: Evidence) -> None:
    """Less than 100 kB, at most 1200 pixels wide, no metadata, and byte for byte the same when drawn again."""
    draw, probability = PLOTS[name], evidence.probability["network"]
    drawn = draw(evidence, probability)
    with Image.open(io.BytesIO(drawn)) as image:
        image.verify()
        assert image.format == "PNG"
        assert 600 <= image.width <= 1200
        assert not image.info.keys() - {"dpi"}
    assert len(drawn) < 100_000
    assert draw(evidence, probability) == drawn


@pytest.mark.parametrize("name", ["roc", "calibration", "confusion", "thresholds"])
def test_a_plot_shows_a_single_repeat_and_a_constant_prediction(name: str, evidence: Evidence) -> None:
    """The majority class is a model too, and ties are no accident."""
    assert PLOTS[name](evidence, np.full((1, len(evidence.target)), 0.46, np.float32))


def test_rates_at_each_threshold_are_shares_of_the_patients(evidence: Evidence) -> None:
    """From 0 everybody is called diseased, above 1 nobody; in between it is the share over patients and repeats."""
    probability = evidence.probability["network"]
    found = plots.rates(evidence.target, probability, 1)
    assert found[:, 0] == pytest.approx(1)
    assert found[:, -1] == pytest.approx(0)
    assert found[0, 100] == pytest.approx((probability[:, evidence.target == 1] >= 0.5).mean())
    assert np.all(np.diff(found[0]) <= 0)


def test_partial_dependence_is_the_mean_over_all_patients(evidence: Evidence) -> None:
    """A worked example: if all were men, the mean prediction is a quarter more than if all were women."""
    values = np.array([0, 1], np.float32)
    female, male = effects.dependence(predict, evidence.rows, FIELDS.index("sex"), values)
    age = evidence.rows[:, FIELDS.index("age")].mean()
    assert (female, male) == pytest.approx((age / 200, age / 200 + 0.25), abs=1e-6)


def test_partial_dependence_stays_where_patients_are(evidence: Evidence) -> None:
    """No code that nobody has, no extreme ages; and what the model says when a measurement was not taken."""
    chest_pain = effects.effect(predict, evidence.rows, FIELDS.index("cp"))
    assert chest_pain.values[:-1].tolist() == [1, 2, 3, 4]
    assert np.isnan(chest_pain.values[-1])
    age = effects.effect(predict, evidence.rows, FIELDS.index("age"))
    assert evidence.rows[:, 0].min() < age.values.min() < age.values.max() < evidence.rows[:, 0].max()
    assert not np.isnan(age.values).any()


def test_the_loss_surface_has_the_found_weights_in_its_middle(fitted: Fitted, cleveland: Dataset) -> None:
    """There it is the network's own loss; around it is seeded; the network itself stays as it was."""
    before = fitted.predict(cleveland.rows)
    losses = surface(fitted, cleveland.rows, cleveland.target, steps=5)
    assert losses.shape == (5, 5)
    log_loss = -np.log(np.where(cleveland.target == 1, before, 1 - before)).mean()
    assert losses[2, 2] == pytest.approx(log_loss, abs=1e-5)
    assert losses[0, 0] > losses[2, 2]
    assert np.array_equal(losses, surface(fitted, cleveland.rows, cleveland.target, steps=5))
    assert np.array_equal(before, fitted.predict(cleveland.rows))
