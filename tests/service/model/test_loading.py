"""Only a valid model is loaded, on the requested provider."""

import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from patient.artefact import ArtefactError, fingerprint, schema
from patient.encoding import Floats
from service.__main__ import main
from service.model import loading as module
from service.model import session
from service.model.device import GpuOptions, ProviderError
from service.model.execution import CHUNK_ROWS, DEVICE_ROWS, DeviceBuffers, Run
from service.model.loading import load
from service.model.predictor import Predictor
from service.settings import GpuMode, Provider
from tests.conftest import MODELS
from trainer.dataset import Dataset

NO_GPU = not session.has_driver()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A copy of the oldest committed version, to be damaged."""
    shutil.copytree(MODELS / "1", tmp_path / "1")
    return tmp_path


def edit(models: Path, **metadata: str) -> None:
    """Change the file's metadata."""
    model = onnx.load(models / "1/model.onnx")
    pairs = {pair.key: pair.value for pair in model.metadata_props}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, pairs | metadata)
    onnx.save(model, models / "1/model.onnx")


def test_the_highest_version_serves(models: Path) -> None:
    """Version 10 comes after 9, and a folder without a file is ignored."""
    for version in ("9", "10"):
        shutil.copytree(models / "1", models / version)
        model = onnx.load(models / version / "model.onnx")
        next(pair for pair in model.metadata_props if pair.key == "version").value = f'"{version}"'
        onnx.save(model, models / version / "model.onnx")
    (models / "11").mkdir()
    assert load(models, "cpu").version == "10"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda m: shutil.rmtree(m / "1"), "no model here"),
        (lambda m: (m / "1/model.onnx").write_bytes(b""), "cannot load it"),
        (lambda m: (m / "1/model.onnx").write_bytes(b"garbage" * 1000), "cannot load it"),
        (lambda m: (m / "1/model.onnx").write_bytes((m / "1/model.onnx").read_bytes()[:3000]), "cannot load it"),
        (lambda m: (m / "1").rename(m / "2"), "its metadata name version 1, its folder 2"),
        (lambda m: edit(m, fingerprint='"f00"'), "its fingerprint is f00, ours " + fingerprint()[:12]),
        (lambda m: edit(m, threshold='"high"'), "lack or garble threshold"),
    ],
    ids=["none", "empty", "garbage", "truncated", "renamed", "other fields", "garbled metadata"],
)
def test_an_invalid_file_stops_the_start(
    models: Path, spoil: object, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the file, what was found and what was expected; exit status 1."""
    assert callable(spoil)
    spoil(models)
    with pytest.raises(ArtefactError) as caught:
        load(models, "cpu")
    assert words in str(caught.value)
    with pytest.raises(SystemExit) as exited:
        main(["--models", str(models), "--provider", "cpu"])
    message = str(exited.value.code)
    assert message == f"service: will not start: {caught.value}"
    assert "\n" not in message
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_file_cut_anywhere_is_refused(models: Path, cut: int) -> None:
    """A truncated file never serves, wherever it ends."""
    content = (models / "1/model.onnx").read_bytes()
    (models / "1/model.onnx").write_bytes(content[: len(content) * cut // 40])
    with pytest.raises(ArtefactError):
        load(models, "cpu")


def test_a_folder_in_place_of_the_file_is_refused(models: Path) -> None:
    """The error names the reason."""
    (models / "1/model.onnx").unlink()
    (models / "1/model.onnx").mkdir()
    with pytest.raises(ArtefactError, match="Is a directory"):
        load(models, "cpu")


def test_another_tools_onnx_file_is_refused(models: Path) -> None:
    """A valid graph without this project's metadata."""
    model = onnx.load(models / "1/model.onnx")
    del model.metadata_props[:]
    onnx.save(model, models / "1/model.onnx")
    with pytest.raises(ArtefactError, match="lack or garble version, created"):
        load(models, "cpu")


def test_another_graph_with_our_metadata_is_refused(models: Path) -> None:
    """The tensors are checked too, naming both sides."""
    graph = onnx.parser.parse_graph(
        "other (float[N,12] patient) => (float[N,12] probability) {probability = Relu(patient)}"
    )
    model = onnx.load(models / "1/model.onnx")
    model.graph.CopyFrom(graph)
    onnx.save(model, models / "1/model.onnx")
    with pytest.raises(ArtefactError, match=r"its inputs and outputs are .*12.* expected .*13"):
        load(models, "cpu")


def test_a_model_without_a_probability_for_the_example_is_refused(models: Path) -> None:
    """A NaN weight: such a model never serves."""
    model = onnx.load(models / "1/model.onnx")
    bias = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [16])
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(16, np.nan, np.float32), bias.name))
    onnx.save(model, models / "1/model.onnx")
    with pytest.raises(ArtefactError, match="not a probability"):
        load(models, "cpu")


def test_many_rows_are_the_same_as_a_few(predictor: Predictor, cleveland: Dataset) -> None:
    """Chunking changes nothing, also where the last chunk is not full."""
    rows = np.tile(cleveland.rows, (30, 1))
    assert len(rows) > 2 * CHUNK_ROWS
    assert predictor(rows) == pytest.approx(np.tile(predictor(cleveland.rows), 30), abs=1e-6)


def test_threads_may_predict_at_once(predictor: Predictor, cleveland: Dataset) -> None:
    """One session serves all."""
    expected = predictor(cleveland.rows)
    wrong: list[int] = []

    def work() -> None:
        wrong.extend(i for i in range(50) if not np.array_equal(predictor(cleveland.rows), expected))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU here")
def test_cuda_without_a_gpu_refuses_to_start() -> None:
    """It never silently uses the CPU."""
    with pytest.raises(ProviderError, match="no NVIDIA driver"):
        load(MODELS, "cuda")
    with pytest.raises(SystemExit) as exited:
        main(["--models", str(MODELS), "--provider", "cuda"])
    assert str(exited.value.code).startswith("service: will not start: provider=cuda: ")


@pytest.mark.skipif(sys.platform != "linux", reason="the CUDA build is for Linux")
@pytest.mark.skipif(not NO_GPU, reason="there is a GPU here")
@pytest.mark.parametrize("provider", ["cuda", "auto"])
def test_a_driver_without_a_usable_device_is_not_a_gpu(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime would silently fall back to the CPU."""
    monkeypatch.setattr(session, "has_driver", lambda: True)
    if provider == "cuda":
        with pytest.raises(ProviderError, match="no usable CUDA device"):
            load(MODELS, provider)
    else:
        assert "no usable CUDA device" in str(load(MODELS, provider).fallback)


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU here")
def test_auto_falls_back_and_says_so() -> None:
    """The reason is kept for start-up's log line and for /health/ready."""
    model = load(MODELS, "auto")
    assert model.provider == "CPUExecutionProvider"
    assert "NVIDIA" in str(model.fallback)
    assert load(MODELS, "cpu").fallback is None


def test_a_build_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime in place of onnxruntime-gpu."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ProviderError, match="no CUDA execution provider"):
        load(MODELS, "cuda")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """A second CPU session in place of the GPU's."""
    made: list[Run] = []

    def run(gpu: ort.InferenceSession, _mode: str) -> Run:
        made.append(DeviceBuffers(gpu, "cpu"))
        return made[-1]

    monkeypatch.setattr(module, "create_gpu_session", lambda content, _gpu: session.create_cpu_session(content))
    monkeypatch.setattr(module, "on_device", run)
    return made


@pytest.mark.usefixtures("stand_in")
def test_cuda_keeps_no_session_on_the_cpu(predictor: Predictor, cleveland: Dataset) -> None:
    """Nothing could replace the GPU."""
    model = load(MODELS, "cuda")
    assert (model.provider, model.cpu, model.crossover, model.fallback) == ("CUDAExecutionProvider", None, 0, None)
    assert model(cleveland.rows) == pytest.approx(predictor(cleveland.rows), abs=1e-6)


def test_auto_divides_runs_between_cpu_and_gpu(stand_in: list[Run], predictor: Predictor, cleveland: Dataset) -> None:
    """From the crossover on, runs go to the GPU; both give the same probabilities."""
    model = load(MODELS, "auto", GpuOptions(crossover=200))
    assert (model.provider, model.gpu, model.crossover) == ("CUDAExecutionProvider", stand_in[0], 200)
    for count in (1, 199, 200, 303):
        rows = cleveland.rows[:count]
        assert model(rows) == pytest.approx(predictor(rows), abs=1e-6)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("measured", [0, 77, None])
def test_auto_measures_the_crossover_where_none_is_set(measured: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not use a GPU that is never faster."""
    monkeypatch.setattr(module, "measure_crossover", lambda _cpu, _gpu: measured)
    model = load(MODELS, "auto")
    assert model.crossover == measured
    if measured is None:
        assert model.provider == "CPUExecutionProvider"
        assert model.fallback == "the CPU was faster than this GPU at every size tried"
    for set_ in (0, 5):
        assert load(MODELS, "auto", GpuOptions(crossover=set_)).crossover == set_


def test_two_real_sessions_can_be_measured(stand_in: list[Run]) -> None:
    """Whichever is faster, the result is consistent."""
    model = load(MODELS, "auto")
    assert stand_in
    assert (model.crossover is None) == (model.provider == "CPUExecutionProvider")


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda answers: answers + 2e-5, "probabilities differ from the CPU's by 2.0e-05 at 1 rows"),
        (lambda answers: answers * np.nan, "probabilities differ from the CPU's by nan at 1 rows"),
        (lambda answers: answers[:, 9], "failed its first runs: too many indices"),
    ],
    ids=["too far", "no number", "failure"],
)
def test_a_gpu_with_other_results_does_not_serve(
    spoil: Callable[[Floats], Floats], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must give the CPU's probabilities for the example, at every size, before it serves."""

    def run(gpu: ort.InferenceSession, _mode: GpuMode) -> Run:
        buffers = DeviceBuffers(gpu, "cpu")
        return lambda rows: spoil(buffers(rows))

    monkeypatch.setattr(module, "on_device", run)
    with pytest.raises(ProviderError, match="provider=cuda: "):
        load(MODELS, "cuda")
    model = load(MODELS, "auto")
    assert model.provider == "CPUExecutionProvider"
    assert words in str(model.fallback)


@pytest.mark.usefixtures("stand_in")
def test_every_size_is_run_before_the_model_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice each: ONNX Runtime allocates by the pattern of the first run in the second."""
    sizes: list[int] = []

    def run(gpu: ort.InferenceSession, _mode: GpuMode) -> Run:
        buffers = DeviceBuffers(gpu, "cpu")

        def record(rows: Floats) -> Floats:
            sizes.append(len(rows))
            return buffers(rows)

        return record

    monkeypatch.setattr(module, "on_device", run)
    load(MODELS, "cuda")
    assert sizes == [size for size in DEVICE_ROWS for _ in range(2)]


def test_the_metadata_name_these_fields(predictor: Predictor) -> None:
    """The committed model was made for this code."""
    assert predictor.metadata.fields == schema()
