"""The folder of versions is a model of a Triton repository."""

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import pytest
from google.protobuf import text_format

from patient.artefact import versions
from tests.conftest import MODELS
from tests.patient.test_artefact import metadata
from trainer.export import TRITON_CONFIG, TRITON_FILE, save


@pytest.fixture(scope="module")
def protobuf() -> Any:
    """Triton's own definition of the file, from its client; the package around it would want gRPC."""
    found = importlib.util.find_spec("tritonclient")
    assert found
    assert found.submodule_search_locations
    file = Path(found.submodule_search_locations[0]) / "grpc/model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model() -> onnx.ModelProto:
    """A committed one, to be saved again."""
    return onnx.load(MODELS / str(versions(MODELS)[0]) / "model.onnx")


def test_triton_reads_the_file_and_finds_the_models_own_tensors(protobuf: Any) -> None:
    """Every name in it is Triton's; a batch dimension in front of `dims` gives the graph's shapes."""
    config = text_format.Parse((MODELS / TRITON_FILE).read_text(), protobuf.ModelConfig())
    assert (config.platform, config.backend, config.name) == ("onnxruntime_onnx", "onnxruntime", "")
    assert config.max_batch_size >= 1
    assert config.HasField("dynamic_batching")
    assert config.version_policy.latest.num_versions == 1
    for version in versions(MODELS):
        session = ort.InferenceSession(MODELS / str(version) / "model.onnx", providers=["CPUExecutionProvider"])
        for said, found in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
            assert [(t.name, list(t.dims), t.data_type) for t in said] == [
                (t.name, t.shape[1:], protobuf.TYPE_FP32) for t in found
            ]
            assert [(t.shape[0], t.type) for t in found] == [("N", "tensor(float)")]


def test_the_committed_file_is_what_the_trainer_writes() -> None:
    """Byte for byte; and the service takes it for no version."""
    assert (MODELS / TRITON_FILE).read_text() == TRITON_CONFIG
    assert all((MODELS / str(version) / "model.onnx").is_file() for version in versions(MODELS))


def test_a_new_version_writes_the_file_once(model: onnx.ModelProto, tmp_path: Path) -> None:
    """A file that is right is left alone, or a Triton that watches the folder would load its model again."""
    save(model, metadata(), "", {}, tmp_path)
    os.utime(tmp_path / TRITON_FILE, (1, 1))
    save(model, metadata(), "", {}, tmp_path)
    assert (tmp_path / TRITON_FILE).stat().st_mtime == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", TRITON_FILE]
    assert not (tmp_path / "2" / TRITON_FILE).exists()


@pytest.mark.parametrize("content", [None, b"", b"name: 'other'", b"\xff"])
def test_a_file_that_is_missing_or_wrong_is_made_right(
    model: onnx.ModelProto, tmp_path: Path, content: bytes | None
) -> None:
    """Earlier trainers wrote none."""
    shutil.copytree(MODELS / str(versions(MODELS)[0]), tmp_path / "1")
    if content is not None:
        (tmp_path / TRITON_FILE).write_bytes(content)
    save(model, metadata(), "", {}, tmp_path)
    assert (tmp_path / TRITON_FILE).read_text() == TRITON_CONFIG


def test_triton_ignores_candidates(model: onnx.ModelProto, tmp_path: Path) -> None:
    """It takes folders for versions whose name is a number that does not begin with 0, and passes over all others."""
    folder = save(model, metadata(), "", {}, tmp_path, aside=True)
    assert not folder.name.isdecimal()
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
