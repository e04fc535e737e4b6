"""An external validation says how a finished model holds on other patients, and what recalibration would bring."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from patient.artefact import ArtefactError, versions
from service.model.registry import ModelRegistry
from service.settings import Settings
from tests.conftest import MODELS
from trainer import external_validation
from trainer.dataset import Dataset, DatasetError
from trainer.promote import ExportedModel


@pytest.fixture(scope="module")
def model() -> ExportedModel:
    """A committed version."""
    return ExportedModel(MODELS / "1/model.onnx")


def test_calibration_maximises_the_likelihood(cleveland: Dataset, model: ExportedModel) -> None:
    """The residuals sum to 0, and with a slope they do not correlate with the log-odds."""
    odds = external_validation.logit(model.predict(cleveland.rows))
    intercept, slope = external_validation.calibration_line(odds, cleveland.target)
    residuals = cleveland.target - 1 / (1 + np.exp(-intercept - slope * odds))
    assert (residuals.mean(), (residuals * odds).mean()) == pytest.approx((0, 0), abs=1e-5)
    alone = external_validation.calibration_intercept(odds, cleveland.target)
    assert (cleveland.target - 1 / (1 + np.exp(-alone - odds))).mean() == pytest.approx(0, abs=1e-9)


def test_a_validation_needs_two_patients_of_either_class(cleveland: Dataset, model: ExportedModel) -> None:
    one_diseased = np.arange(303, dtype=np.float32) == 0
    with pytest.raises(DatasetError, match="at least two patients"):
        external_validation.validate(model, cleveland.rows, one_diseased.astype(np.float32))


def test_estimates_that_are_too_low_show_in_the_calibration_intercept(model: ExportedModel, cleveland: Dataset) -> None:
    """Patients whose odds are e times the model's, drawn from it: intercept 1, slope 1."""
    rows = np.tile(cleveland.rows, (60, 1))
    odds = external_validation.logit(model.predict(rows)) + 1
    target = (np.random.default_rng(0).random(len(rows)) < 1 / (1 + np.exp(-odds))).astype(np.float32)
    found = external_validation.validate(model, rows, target)
    assert found.intercept == pytest.approx(1, abs=0.1)
    assert found.slope == pytest.approx(1, abs=0.1)
    assert found.offer
    assert found.offer.is_better
    assert found.offer.gain.value < -0.02


def test_the_report_holds_scores_calibration_and_missing_values(model: ExportedModel, cleveland: Dataset) -> None:
    """Scores with intervals, calibration, what was missing, and the offer."""
    shown = external_validation.report(
        external_validation.validate(model, cleveland.rows, cleveland.target), "1", cleveland
    )
    for words in (
        "303 patients",
        "log loss",
        "auc",
        "95 %",
        "intercept",
        "slope",
        "ca 4, thal 2",
        "46 % for everybody",
        "0.6897",
        "sensitivity",
        "observed / expected",
        "at the threshold 0.5",
        "everybody +0.39",
        "Recalibrated",
    ):
        assert words in shown


def test_net_benefit_weighs_the_harm_of_treating_healthy_patients() -> None:
    """By hand: ten patients, four diseased; three of them and one healthy one are at or above 0.2."""
    target = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], np.float32)
    probability = np.array([0.9, 0.5, 0.2, 0.1, 0.7, 0.1, 0.1, 0.1, 0.1, 0.1], np.float32)
    of_model, of_all = external_validation.net_benefit(target, probability, 0.2)
    assert of_model == pytest.approx(0.3 - 0.25 * 0.1)
    assert of_all == pytest.approx(0.4 - 0.25 * 0.6)


def test_the_ratio_of_observed_and_expected_has_an_interval() -> None:
    target, probability = np.tile([1, 0], 50).astype(np.float32), np.full(100, 0.25, np.float32)
    value, low, high = external_validation.observed_over_expected(target, probability)
    assert value == pytest.approx(2)
    assert low == pytest.approx(1.6, abs=0.1)
    assert high == pytest.approx(2.4, abs=0.1)


def test_the_threshold_can_be_another_than_the_models(cleveland: Dataset, model: ExportedModel) -> None:
    own, low = (external_validation.validate(model, cleveland.rows, cleveland.target, at) for at in (None, 0.2))
    assert (own.threshold, low.threshold) == (model.metadata.threshold, 0.2)
    assert low.intervals["sensitivity"].value > own.intervals["sensitivity"].value
    assert own.intervals["log_loss"] == low.intervals["log_loss"]


def shifted(cleveland: Dataset, model: ExportedModel) -> Dataset:
    """Cleveland's patients where the disease is rarer than the model says."""
    odds = external_validation.logit(model.predict(cleveland.rows)) - 2
    drawn = np.random.default_rng(0).random(len(odds)) < 1 / (1 + np.exp(-odds))
    return replace(cleveland, target=drawn.astype(np.float32))


@pytest.fixture
def newest(tmp_path: Path) -> ExportedModel:
    """The newest committed version, which has checks and bins, in a folder of its own."""
    version = str(versions(MODELS)[-1])
    shutil.copytree(MODELS / version, tmp_path / version)
    return ExportedModel(tmp_path / version / "model.onnx")


def test_the_service_takes_a_recalibrated_model(cleveland: Dataset, newest: ExportedModel, tmp_path: Path) -> None:
    """While it runs. Its log-odds are the old ones on the line, and the file says what was done."""
    registry = ModelRegistry(Settings(models=tmp_path, provider="cpu", watch=0))
    assert registry.start().version == newest.metadata.version
    data = shifted(cleveland, newest)
    found = external_validation.validate(newest, data.rows, data.target)
    assert found.offer
    folder = external_validation.recalibrate(newest, found, data, tmp_path)
    new = registry.poll(now=True)
    assert new
    assert new.version == folder.name == str(int(newest.metadata.version) + 1)
    intercept, slope = found.offer.line
    expected = intercept + slope * external_validation.logit(newest.predict(cleveland.rows))
    assert external_validation.logit(new(cleveland.rows)) == pytest.approx(expected, abs=1e-4)
    assert new.metadata.promotion["recalibrated_from"] == newest.metadata.version
    share = new.metadata.bins["probability"].share
    assert share == pytest.approx(np.histogram(new(data.rows), 10, (0, 1))[0] / len(data), abs=0.02)
    assert "recalibrated" in (folder / "MODEL_CARD.md").read_text()


def test_a_model_that_would_not_be_better_is_written_only_by_force(
    cleveland: Dataset, newest: ExportedModel, tmp_path: Path
) -> None:
    """On its own patients there is nothing to gain."""
    found = external_validation.validate(newest, cleveland.rows, cleveland.target)
    assert "not surely better" in external_validation.report(found, "3", cleveland)
    with pytest.raises(ArtefactError, match=r"not recalibrated.*--force"):
        external_validation.recalibrate(newest, found, cleveland, tmp_path)
    folder = external_validation.recalibrate(newest, found, cleveland, tmp_path, force=True)
    assert "do not show that this version is better" in (folder / "MODEL_CARD.md").read_text()


def test_few_patients_are_not_offered_a_recalibration(
    cleveland: Dataset, newest: ExportedModel, tmp_path: Path
) -> None:
    few = replace(cleveland, rows=cleveland.rows[:19], target=cleveland.target[:19])
    found = external_validation.validate(newest, few.rows, few.target)
    assert found.offer is None
    assert "Too few patients to recalibrate the model: 20" in external_validation.report(found, "3", few)
    with pytest.raises(ArtefactError, match="Too few patients"):
        external_validation.recalibrate(newest, found, few, tmp_path, force=True)
