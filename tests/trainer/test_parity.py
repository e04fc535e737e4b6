"""Keras = ONNX = numpy reference = HTTP, on all 303 records: one encoding, wherever it runs."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient

from patient.encoding import Floats, encode, layout
from patient.record import FIELDS
from service.app import create_app
from service.model.loading import load
from service.settings import Settings
from tests.conftest import MODELS
from tests.patient.test_artefact import metadata
from trainer.dataset import Dataset
from trainer.export import save, to_onnx
from trainer.fit import Fitted


def reference(file: Path, rows: Floats) -> Floats:
    """Compute the probability in numpy from the file's weights: (x - mean) * scale, two matrices, sigmoid."""
    graph = onnx.load(file).graph
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}

    def numbers(operation: str) -> list[Floats]:
        return [stored[i] for node in graph.node if node.op_type == operation for i in node.input if i in stored]

    (mean,), (scale,) = numbers("Sub"), numbers("Mul")
    (kernel_1, kernel_2), (bias_1, bias_2) = numbers("MatMul"), numbers("Add")
    hidden = np.maximum(encode(rows, mean.ravel(), np.float32(1) / scale.ravel()) @ kernel_1 + bias_1, 0)
    probability: Floats = 1 / (1 + np.exp(-(hidden @ kernel_2 + bias_2)))
    return probability[:, 0]


def over_http(models: Path, rows: Floats) -> Floats:
    """The probabilities from a service with these models."""
    records = [
        {name: None if np.isnan(value) else float(value) for name, value in zip(FIELDS, row, strict=True)}
        for row in rows
    ]
    with TestClient(create_app(Settings(models=models, provider="cpu"))) as client:
        answer = client.post("/predict/batch", json=records).json()
    return np.array([prediction["probability"] for prediction in answer["predictions"]])


def with_missing(rows: Floats) -> Floats:
    """The rows, and again with every second measurement missing."""
    holes = rows.copy()
    holes[:, 2::2] = np.nan
    return np.vstack([rows, holes])


def test_a_freshly_trained_network_predicts_the_same_in_all_four_implementations(
    fitted: Fitted, cleveland: Dataset, tmp_path: Path
) -> None:
    """Within 1e-6, also where measurements are missing; the largest differences are reported."""
    folder = save(to_onnx(fitted), metadata(), "", {}, tmp_path)
    rows = with_missing(cleveland.rows)
    keras = fitted.predict(rows)
    differences = {
        "ONNX": np.abs(load(tmp_path, "cpu")(rows) - keras).max(),
        "numpy": np.abs(reference(folder / "model.onnx", rows) - keras).max(),
        "HTTP": np.abs(over_http(tmp_path, rows) - keras).max(),
    }
    shown = ", ".join(f"{name} {difference:.1e}" for name, difference in differences.items())
    sys.stdout.write(f"largest difference from Keras on 606 rows: {shown}\n")
    assert max(differences.values()) < 1e-6, differences


@pytest.mark.parametrize("version", [folder.name for folder in MODELS.iterdir() if folder.name.isdecimal()])
def test_a_committed_model_predicts_the_same_in_all_implementations(
    version: str, cleveland: Dataset, tmp_path: Path
) -> None:
    """ONNX Runtime, the numpy reference with the file's weights, and HTTP."""
    (tmp_path / version).symlink_to(MODELS / version)
    rows = with_missing(cleveland.rows)
    expected = reference(MODELS / version / "model.onnx", rows)
    assert load(tmp_path, "cpu")(rows) == pytest.approx(expected, abs=1e-6)
    assert over_http(tmp_path, rows) == pytest.approx(expected, abs=1e-6)


def test_the_committed_model_has_497_parameters_behind_29_inputs() -> None:
    """The lecture's network."""
    graph = onnx.load(MODELS / "1/model.onnx").graph
    trained = [
        tensor
        for node in graph.node
        if node.op_type in ("MatMul", "Add")
        for tensor in graph.initializer
        if tensor.name in node.input
    ]
    assert [list(tensor.dims) for tensor in trained] == [[layout().width, 16], [16], [16, 1], [1]]
    assert sum(int(np.prod(tensor.dims)) for tensor in trained) == 497
