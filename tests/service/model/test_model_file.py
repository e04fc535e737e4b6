"""A model file is data: it cannot make the service read other files, load libraries, wait or run out of memory."""

import contextlib
import hashlib
import logging
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from patient.artefact import FILE, ArtefactError, versions
from service.model import model_file
from service.model.loading import load
from service.model.registry import ModelRegistry
from service.settings import Settings
from tests.conftest import MODELS

NEWEST = MODELS / str(versions(MODELS)[-1]) / FILE


def _outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    tensor.ClearField("raw_data")


def _outside_in_a_branch(model: onnx.ModelProto) -> None:
    inner = onnx.ModelProto()
    inner.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32)))
    _outside(inner)
    model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=inner.graph, else_branch=inner.graph))


def _domain(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.microsoft"


def _import(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("of.a.library", 1))


def _function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("f", "F", ["x"], ["y"], [], []))


def _training(model: onnx.ModelProto) -> None:
    model.training_info.add().initialization.name = "steps"


def _deep(model: onnx.ModelProto) -> None:
    graph = onnx.GraphProto()
    for _ in range(20):
        outer = onnx.GraphProto()
        outer.node.append(helper.make_node("If", ["c"], ["y"], then_branch=graph))
        graph = outer
    model.graph.node.extend(graph.node)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_outside, "other files"),
        (_outside_in_a_branch, "other files"),
        (_domain, "not ONNX's own"),
        (_import, "not ONNX's own"),
        (_function, "its own functions"),
        (_training, "training steps"),
        (_deep, "deep"),
    ],
)
def test_a_graph_that_is_more_than_data_is_refused(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], words: str
) -> None:
    """By name, and before ONNX Runtime sees it."""
    model = onnx.load(NEWEST)
    change(model)
    file = tmp_path / NEWEST.parent.name / FILE
    file.parent.mkdir()
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match=words) as caught:
        load(tmp_path, "cpu")
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("version", versions(MODELS))
def test_our_models_are_data(version: int) -> None:
    """All committed versions."""
    content = model_file.read(MODELS / str(version) / FILE)
    assert content == (MODELS / str(version) / FILE).read_bytes()


def test_a_truncated_or_garbled_file_is_refused_or_left_to_onnx_runtime() -> None:
    """It never raises another error."""
    whole, chance = NEWEST.read_bytes(), random.Random(0)
    for _ in range(500):
        garbled = bytearray(whole[: chance.randrange(len(whole))])
        for _ in range(3):
            garbled[chance.randrange(len(garbled))] = chance.randrange(256)
        with contextlib.suppress(ArtefactError):
            model_file.check(bytes(garbled))


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """It may be larger than memory, so no more than the limit is read. This one is sparse."""
    file = tmp_path / FILE
    file.touch()
    os.truncate(file, 2**40)
    with pytest.raises(ArtefactError, match="the limit is 67108864"):
        model_file.read(file)


def test_a_pipe_is_not_a_model_file(tmp_path: Path) -> None:
    """Reading one would wait for a writer."""
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(ArtefactError, match="not a regular file"):
        model_file.read(tmp_path / FILE)


def test_the_digest_is_the_files_own(tmp_path: Path) -> None:
    """As sha256sum gives it; the same for a copy."""
    shutil.copytree(NEWEST.parent, tmp_path / NEWEST.parent.name)
    copied = load(tmp_path, "cpu")
    assert copied.digest == load(MODELS, "cpu").digest == hashlib.sha256(NEWEST.read_bytes()).hexdigest()


def test_the_bundled_model_serves_where_the_default_folder_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log says so. A folder that exists, or was named explicitly, is never replaced."""
    bundled, default, named = tmp_path / "bundled", Path("models/heart_disease"), Path("elsewhere")
    shutil.copytree(NEWEST.parent, bundled / NEWEST.parent.name)
    monkeypatch.setattr(model_file, "BUNDLED", bundled)
    monkeypatch.chdir(tmp_path)
    assert model_file.model_folder(named) == named
    with caplog.at_level(logging.INFO):
        registry = ModelRegistry(Settings(provider="cpu"))
        assert registry.start().file == bundled / NEWEST.parent.name / FILE
        assert registry.poll(now=True) is None
    assert caplog.messages == [
        f"no models/heart_disease here: using model version {NEWEST.parent.name}, which is installed with the package"
    ]
    default.mkdir(parents=True)
    assert model_file.model_folder(default) == default


def test_without_a_bundled_model_the_default_folder_is_missed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout has no bundled model."""
    monkeypatch.chdir("/")
    with pytest.raises(ArtefactError, match="models/heart_disease: no model here"):
        ModelRegistry(Settings(provider="cpu")).start()
