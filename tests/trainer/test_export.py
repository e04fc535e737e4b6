"""The exported file is the Keras model, whole, and only ever complete on disk."""

import os
import time
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest

from patient.artefact import versions
from tests.patient.test_artefact import metadata
from trainer import export
from trainer.dataset import Dataset
from trainer.export import TRITON_FILE, ExportError, parity, save, to_onnx
from trainer.fit import Fitted, fit
from trainer.recipe import Recipe


@pytest.fixture(scope="module")
def model(fitted: Fitted) -> onnx.ModelProto:
    """The exported network."""
    return to_onnx(fitted)


def test_keras_and_onnx_agree_on_all_rows(model: onnx.ModelProto, fitted: Fitted, cleveland: Dataset) -> None:
    """Within float32 rounding."""
    assert parity(model, fitted, cleveland.rows) < 1e-6


def test_the_graph_is_small_and_carries_the_encoding(model: onnx.ModelProto) -> None:
    """13 raw numbers in, no operation a field."""
    assert [len(model.graph.input), len(model.graph.output)] == [1, 1]
    assert model.graph.input[0].type.tensor_type.shape.dim[1].dim_value == 13
    assert len(model.graph.node) <= 17


def test_the_same_run_exports_the_same_bytes(model: onnx.ModelProto, cleveland: Dataset, brief: Recipe) -> None:
    """Trained and exported again in a process that has trained other networks since."""
    again = to_onnx(fit(cleveland.rows, cleveland.target, brief))
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    del plain.metadata_props[:]
    assert again.SerializeToString(deterministic=True) == plain.SerializeToString(deterministic=True)


def test_disagreement_writes_nothing(model: onnx.ModelProto, cleveland: Dataset) -> None:
    """A graph that answers otherwise than Keras is refused with the difference."""
    other = fit(cleveland.rows, cleveland.target, Recipe(epochs=1))
    with pytest.raises(ExportError, match=r"differ by \d"):
        parity(model, other, cleveland.rows)


def test_versions_count_up_and_are_stamped(model: onnx.ModelProto, tmp_path: Path) -> None:
    """The folder's number is in the file and in the card, and nothing else lies around."""
    for number in ("1", "2"):
        folder = save(model, metadata(), "card of {version}", {}, tmp_path)
        session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        assert folder.name == number
        assert session.get_modelmeta().custom_metadata_map["version"] == f'"{number}"'
        assert (folder / "MODEL_CARD.md").read_text() == f"card of {number}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", TRITON_FILE]


def test_a_number_that_another_trainer_took_meanwhile_is_passed_over(
    model: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two trainers that both mean to write version 1, the later one writes version 2."""
    first = save(model, metadata(), "first", {}, tmp_path)
    monkeypatch.setattr(export, "versions", lambda _models: [])  # what the second one saw before the first wrote
    second = save(model, metadata(), "second", {}, tmp_path)
    assert [first.name, second.name] == ["1", "2"]
    assert (first / "MODEL_CARD.md").read_text() == "first"


def test_a_failure_while_writing_leaves_nothing(
    model: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk costs the new version, and no half of it stays."""

    def full(_path: Path, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        save(model, metadata(), "", {}, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert versions(tmp_path) == []


def test_a_folder_that_cannot_be_renamed_is_an_error_and_no_endless_loop(
    model: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a number that is taken leads to the next."""

    def refuse(_self: Path, _target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        save(model, metadata(), "", {}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [TRITON_FILE]  # without a version it means nothing


def test_the_folder_of_a_killed_trainer_is_removed(model: onnx.ModelProto, tmp_path: Path) -> None:
    """By the next one that writes; a folder that may still be in use stays."""
    for name, age in ((".writing-old", 7200), (".writing-new", 0)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    save(model, metadata(), "", {}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".writing-new", "1", TRITON_FILE]
