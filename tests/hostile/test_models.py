"""Whatever lies in the model folder: a start falls back, the old model serves on, and the log says why."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from onnx import TensorProto, helper

from patient.artefact import CARD, FILE, INPUT, OUTPUT, PIN, ArtefactError, pinned
from patient.record import EXAMPLE, FIELDS
from service.app import create_app
from service.model import loading, session, trial
from service.model.loading import load
from service.model.model_file import check
from service.model.registry import ModelRegistry
from service.settings import Settings
from tests.e2e.serving import get, serving
from tests.versions import make

HALF = helper.make_tensor("half", TensorProto.FLOAT, [1], [0.5])


def constant(rows: int) -> list[onnx.NodeProto]:
    """A graph whose output has always so many rows."""
    value = helper.make_tensor("rows", TensorProto.FLOAT, [rows, 1], [0.5] * rows)
    return [helper.make_node("Constant", [], [OUTPUT], value=value)]


def endless() -> list[onnx.NodeProto]:
    """A loop of 2^62 iterations."""
    body = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in ("keep", "state")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("keep", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("keep_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_out", TensorProto.FLOAT, None),
        ],
    )
    return [
        helper.make_node("Constant", [], ["trips"], value=helper.make_tensor("t", TensorProto.INT64, [], [2**62])),
        helper.make_node("Constant", [], ["true"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True])),
        helper.make_node("ReduceMax", [INPUT], ["start"], axes=[1], keepdims=1),
        helper.make_node("Loop", ["trips", "true", "start"], [OUTPUT], body=body),
    ]


def greedy() -> list[onnx.NodeProto]:
    """1.7 GiB for the rows of a run."""
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [1, 2**13])
    return [
        helper.make_node("Constant", [], ["wide"], value=shape),
        helper.make_node("Constant", [], ["half"], value=HALF),
        helper.make_node("Tile", [INPUT, "wide"], ["much"]),
        helper.make_node("ReduceMax", ["much"], ["most"], axes=[1], keepdims=1),
        helper.make_node("Where", ["no", "most", "half"], [OUTPUT]),
        helper.make_node("Constant", [], ["no"], value=helper.make_tensor("n", TensorProto.BOOL, [1], [False])),
    ]


GRAPHS: dict[str, tuple[Callable[[], list[onnx.NodeProto]], str]] = {
    "one row too few": (lambda: constant(1), "for 2 rows its output has 1"),
    "always two rows": (lambda: constant(2), "for 1 rows its output has 2"),
    "endless": (endless, "within 2 s"),
    "greedy": (greedy, "llocat|memory"),
}


def put(models: Path, version: int, nodes: list[onnx.NodeProto]) -> Path:
    """A version with this graph, and metadata that fit it."""
    file = make(models, version, 0.5)
    model = onnx.load(file)
    model.graph.ClearField("node")
    model.graph.ClearField("initializer")
    model.graph.node.extend(sorted(nodes, key=lambda node: node.op_type != "Constant"))
    model.opset_import[0].version = 17
    onnx.save(model, file)
    return file


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with the good version 1."""
    make(tmp_path, 1)
    return tmp_path


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SECONDS", 2)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("forks", [True, False], ids=["at the start", "while it serves"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_a_graph_that_hangs_or_grows_is_refused_and_the_older_version_serves(
    models: Path, graph: str, forks: bool, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(session, "is_runtime_used", not forks)
    nodes, words = GRAPHS[graph]
    registry = ModelRegistry(Settings(models=models, provider="cpu"))
    if not forks:
        registry.start()
    file = put(models, 2, nodes())
    if forks:
        registry.start()
    else:
        assert registry.poll(now=True) is None
    assert registry.model
    assert registry.model.version == "1"
    (line,) = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert str(file) in line
    assert re.search(words, line), line


def test_a_file_that_crashes_the_runtime_is_refused(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that tries it is killed by a signal."""
    monkeypatch.setattr(session, "is_runtime_used", False)
    monkeypatch.setattr(trial, "inspect", lambda _content: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(ArtefactError, match=r"model\.onnx: ONNX Runtime ended with it: SIGKILL"):
        ModelRegistry(Settings(models=models, provider="cpu")).start()


def test_sigterm_ends_a_service_that_tries_a_file(models: Path) -> None:
    """Which would take 20 s more."""
    with serving("--models", str(models), "--watch", "0.1", "--grace", "1") as (port, process):
        put(models, 2, endless())
        for _ in range(500):
            if len(tries := _trials(process)) == 1:
                break
            time.sleep(0.01)
        assert tries
        assert json.loads(get(port, "/health/ready"))["model_version"] == "1"
        os.kill(process, signal.SIGTERM)
        for _ in range(800):
            if not Path(f"/proc/{tries[0]}").exists() and _is_gone(process):
                return
            time.sleep(0.01)
        raise AssertionError("it did not end within 8 s")


def _trials(process: int) -> list[int]:
    """Processes that try a file for a service."""
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text().split():
            command = Path(f"/proc/{child}/cmdline")
            if command.exists() and b"service.model.trial" in command.read_bytes():
                found.append(int(child))
    return found


def _is_gone(process: int) -> bool:
    """Whether a process has ended, though its parent may not have asked for its status."""
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("name", [PIN, FILE])
def test_a_pipe_in_place_of_a_file_holds_nobody_up(models: Path, name: str) -> None:
    pipe = models / PIN if name == PIN else models / "2" / FILE
    pipe.parent.mkdir(exist_ok=True)
    os.mkfifo(pipe)
    if name == PIN:
        with pytest.raises(ArtefactError, match="serve: it is not a regular file"):
            pinned(models)
    else:
        assert ModelRegistry(Settings(models=models, provider="cpu")).start().version == "1"


def test_a_pin_is_not_read_whole(models: Path) -> None:
    with (models / PIN).open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(ArtefactError, match="must hold the number"):
        pinned(models)


def test_a_tag_above_32_bits_hides_nothing() -> None:
    """A reader that keeps its last 32 bits takes it for an operator's domain."""
    node = b"\x22\x03abc" + _varint(7 << 3 | 2 | 1 << 35) + b"\x04evil"
    graph = b"\x0a" + bytes([len(node)]) + node
    with pytest.raises(ArtefactError, match="not an ONNX file"):
        check(b"\x3a" + bytes([len(graph)]) + graph)


def _varint(number: int) -> bytes:
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])


METADATA: dict[str, dict[str, Any]] = {
    "shares": {"bins": {"age": {"upper": [40, 50], "share": [1], "missing": 0, "ill": [0.5, 0.5, 0.5]}}},
    "illness": {"bins": {"age": {"upper": [40, 50], "share": [0.2, 0.3, 0.5], "missing": 0, "ill": [0.5]}}},
    "no number": {"bins": {"age": {"upper": [40, float("nan")], "share": [], "missing": 0, "ill": []}}},
    "background": {"background": [[1.0, 2.0]]},
    "no background": {"background": [[float("inf")] * len(FIELDS)]},
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA)
def test_metadata_that_do_not_fit_are_refused(models: Path, metadata: dict[str, Any]) -> None:
    """They gave 500 in /metrics and /explain."""
    make(models, 2, **metadata)
    with pytest.raises(ArtefactError, match=next(iter(metadata))):
        load(models, "cpu")


@pytest.mark.parametrize("kind", ["link", "pipe", "large"])
def test_a_model_card_is_a_file_of_its_version(models: Path, kind: str) -> None:
    card = models / "1" / CARD
    if kind == "link":
        card.symlink_to("/etc/passwd")
    elif kind == "pipe":
        os.mkfifo(card)
    else:
        with card.open("wb") as file:
            file.truncate(2**33)
    with TestClient(create_app(Settings(models=models, provider="cpu"), load(models, "cpu"))) as client:
        answer = client.get("/model/card")
        assert answer.status_code == (200 if kind == "large" else 404)
        assert len(answer.content) < 2**23
        card.unlink()
        (models / "1" / "..data").mkdir()
        (models / "1" / "..data" / CARD).write_text("# Card")
        card.symlink_to(f"..data/{CARD}")  # as Kubernetes mounts files
        assert client.get("/model/card").text == "# Card"


def test_a_good_model_passes_both_ways(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (models / "1" / FILE).read_bytes()
    for is_used in (False, True):
        monkeypatch.setattr(session, "is_runtime_used", is_used)
        trial.Trial().run(content)
    assert np.isfinite(loading.load(models, "cpu")(np.array([[EXAMPLE[name] for name in FIELDS]], np.float32))).all()
