"""An external validation says how a finished model holds on other patients, and what recalibration would bring."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from service.model.loading import load
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
    assert found.recalibrated < found.scores["log_loss"] - 0.02


def test_the_report_holds_scores_calibration_and_missing_values(model: ExportedModel, cleveland: Dataset) -> None:
    """Scores with intervals, calibration, what was missing, and the offer."""
    shown = external_validation.report(
        external_validation.validate(model, cleveland.rows, cleveland.target), "1", cleveland
    )
    for words in ("303 patients", "log loss", "auc", "95 %", "intercept", "slope", "ca 1%", "Recalibrated"):
        assert words in shown


def test_a_recalibrated_model_is_a_version_that_serves(cleveland: Dataset, tmp_path: Path) -> None:
    """Its log-odds are the old ones on the line, the old version stays, and the file says what was done."""
    shutil.copytree(MODELS / "1", tmp_path / "1")
    old = ExportedModel(tmp_path / "1/model.onnx")
    found = external_validation.validate(old, cleveland.rows, cleveland.target)
    folder = external_validation.recalibrate(old, found, cleveland, tmp_path)
    assert folder.name == "2"
    new = load(tmp_path, "cpu")
    intercept, slope = found.line
    expected = intercept + slope * external_validation.logit(old.predict(cleveland.rows))
    assert external_validation.logit(new(cleveland.rows)) == pytest.approx(expected, abs=1e-4)
    assert new.metadata.promotion["recalibrated_from"] == "1"
    assert "recalibrated" in (folder / "MODEL_CARD.md").read_text()
