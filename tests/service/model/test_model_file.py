"""A model file is data: it cannot make the service read other files, load libraries, wait or run out of memory."""

import contextlib
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
from service.model import model_file as artefact_file
from service.model.predictor import load
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
        (_function, "functions of its own"),
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
    """All that were ever released."""
    content = artefact_file.read(MODELS / str(version) / FILE)
    assert content == (MODELS / str(version) / FILE).read_bytes()


def test_what_is_cut_off_or_garbled_is_refused_or_left_to_onnx_runtime() -> None:
    """Never another error."""
    whole, chance = NEWEST.read_bytes(), random.Random(0)
    for _ in range(500):
        garbled = bytearray(whole[: chance.randrange(len(whole))])
        for _ in range(3):
            garbled[chance.randrange(len(garbled))] = chance.randrange(256)
        with contextlib.suppress(ArtefactError):
            artefact_file.check(bytes(garbled))


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """It may be larger than memory: this one takes no room on disk either."""
    file = tmp_path / FILE
    file.touch()
    os.truncate(file, 2**40)
    with pytest.raises(ArtefactError, match="at most 67108864"):
        artefact_file.read(file)


def test_a_pipe_is_no_model_file(tmp_path: Path) -> None:
    """To read one would wait for whoever writes."""
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(ArtefactError, match="no regular file"):
        artefact_file.read(tmp_path / FILE)


def test_the_digest_is_the_files_own(tmp_path: Path) -> None:
    """As sha256sum gives it; the same for a copy."""
    shutil.copytree(NEWEST.parent, tmp_path / NEWEST.parent.name)
    copied = load(tmp_path, "cpu")
    assert copied.digest == load(MODELS, "cpu").digest == artefact_file.digest(NEWEST.read_bytes())
    assert len(copied.digest) == 64
