"""The newest valid version serves, unless one is pinned; once started, a version always serves."""

import gc
import logging
import os
import weakref
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest

from patient.artefact import FILE, PIN, ArtefactError, pinned
from patient.encoding import Floats
from patient.record import EXAMPLE, FIELDS
from service.model import loading as module
from service.model import session
from service.model.device import DeviceLost, ProviderError
from service.model.execution import DeviceBuffers
from service.model.loading import load
from service.model.predictor import Predictor
from service.model.registry import ModelRegistry
from service.settings import Provider, Settings
from tests.versions import make, probability_of, remove

ROW = np.array([[EXAMPLE[name] for name in FIELDS]], np.float32)


OUTCOMES: WeakKeyDictionary[ModelRegistry, list[str]] = WeakKeyDictionary()  # what each registry reported


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with version 1."""
    make(tmp_path, 1)
    return tmp_path


def versions(models: Path, provider: Provider = "cpu", **settings: Any) -> ModelRegistry:
    """The registry of a process that has just started."""
    outcomes: list[str] = []
    found = ModelRegistry(Settings(models=models, provider=provider, **settings), outcomes.append)
    OUTCOMES[found] = outcomes
    found.start()
    return found


def serving(of: ModelRegistry) -> str:
    """The version that serves, after checking that its probability is its own."""
    assert of.model
    assert of.model(ROW)[0] == pytest.approx(probability_of(of.model.version), abs=1e-6)
    return of.model.version


def refused(of: ModelRegistry) -> int:
    """How many refusals were reported."""
    return OUTCOMES[of].count("refused")


def test_a_new_version_serves_once_its_file_is_the_same_in_two_polls(models: Path) -> None:
    """No signal is needed."""
    of = versions(models)
    assert of.poll() is None
    make(models, 2)
    assert of.poll() is None
    assert of.poll() is of.model
    assert serving(of) == "2"
    assert of.poll() is None
    assert (OUTCOMES[of].count("loaded"), refused(of)) == (1, 0)


def test_sighup_loads_a_new_version_at_once(models: Path) -> None:
    """In one poll; of several new versions the highest."""
    of = versions(models)
    make(models, 9)
    make(models, 10)
    assert of.poll(now=True)
    assert serving(of) == "10"
    assert of.poll(now=True) is None


BAD = {
    "empty": "cannot load it",
    "garbage": "cannot load it",
    "truncated": "cannot load it",
    "a folder": "Is a directory",
    "a pipe": "it is not a regular file",
    "endless": "it is not a regular file",
    "another's": "its metadata name version 3, its folder 2",
}


def spoil(file: Path, how: str) -> None:
    """Make a version bad in this way."""
    content = file.read_bytes()
    file.unlink()
    match how:
        case "empty":
            file.touch()
        case "garbage":
            file.write_bytes(b"garbage" * 1000)
        case "truncated":
            file.write_bytes(content[:3000])
        case "a folder":
            file.mkdir()
        case "a pipe":
            os.mkfifo(file)
        case "endless":
            file.symlink_to("/dev/zero")
        case "another's":
            make(file.parents[1], 3).rename(file)
            (file.parents[1] / "3").rmdir()


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_version_is_refused_once_and_the_old_one_serves(
    models: Path, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line that says why, and a count, however often it is looked at; repaired, it serves."""
    of = versions(models)
    spoil(make(models, 2), bad)
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            assert of.poll() is None
    assert serving(of) == "1"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert caplog.messages[0].startswith(f"refused; version 1 keeps serving: {models}/2/model.onnx: ")
    assert BAD[bad] in caplog.messages[0]
    assert refused(of) == 1
    remove(models, 2)
    make(models, 2)
    assert [bool(of.poll()) for _ in range(2)] == [False, True]
    assert serving(of) == "2"


def test_a_folder_without_a_file_is_no_version_yet(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither is one with a broken link: nothing is logged."""
    of = versions(models)
    for version in (2, 3):
        (models / str(version)).mkdir()
    (models / "3" / FILE).symlink_to("/nowhere")
    assert [of.poll() for _ in range(3)] == [None] * 3
    assert not caplog.records


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "other fields": ({"fingerprint": "f00"}, "its fingerprint is f00"),
    "no threshold": ({"threshold": float("nan")}, "garble threshold"),
    "other answers": (
        {"checks": {"rows": [[60] * 13], "probabilities": [0.00202]}},
        "differ by 2.0e-05",
    ),
    "no answers": (
        {"checks": {"rows": [[60] * 13], "probabilities": []}},
        "with one probability each",
    ),
    "ragged": (
        {"checks": {"rows": [[60] * 12], "probabilities": [0.002]}},
        "with one probability each",
    ),
    "no number expected": ({"checks": {"rows": [[60] * 13], "probabilities": [float("nan")]}}, "differ by nan"),
    "not a probability": ({"probability": float("nan")}, "not a probability"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_whole_file_must_answer_as_it_did_when_it_was_exported(
    models: Path, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Made for this code, within 1e-5 on the patients that it brings, and never NaN."""
    of = versions(models)
    metadata, words = WRONG[wrong]
    make(models, 2, **metadata)
    assert of.poll(now=True) is None
    assert words in caplog.text
    assert serving(of) == "1"
    with pytest.raises(ArtefactError, match=words):
        load(models, "cpu")


def test_a_growing_file_is_left_alone_until_it_is_whole(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A slow copy is not an invalid version: nothing is logged."""
    of = versions(models)
    content = make(models, 2).read_bytes()
    remove(models, 2)
    (models / "2").mkdir()
    with (models / "2" / FILE).open("wb") as file:
        for start in range(0, len(content), 5000):
            file.write(content[start : start + 5000])
            file.flush()
            assert of.poll() is None
    assert not of.poll() or serving(of) == "2"
    of.poll()
    assert serving(of) == "2"
    assert not caplog.records


def test_a_version_that_was_asked_for_too_early_serves_when_it_is_whole(models: Path) -> None:
    """SIGHUP in the midst of a copy: refused, and tried again once the file has changed."""
    of = versions(models)
    content = make(models, 2).read_bytes()
    (models / "2" / FILE).write_bytes(content[:3000])
    assert of.poll(now=True) is None
    assert refused(of) == 1
    (models / "2" / FILE).write_bytes(content)
    assert [bool(of.poll()) for _ in range(2)] == [False, True]


def test_permissions_that_come_back_are_enough(models: Path) -> None:
    """The content need not change for another try."""
    of = versions(models)
    file = make(models, 2)
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("whoever runs this may read everything")
    assert [of.poll() for _ in range(3)] == [None] * 3
    assert refused(of) == 1
    file.chmod(0o644)
    assert [bool(of.poll()) for _ in range(2)] == [False, True]


@pytest.mark.parametrize("what", ["the version", "all", "the folder"])
def test_the_serving_model_survives_its_file(models: Path, what: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is in memory: one line is logged, and no older version replaces it."""
    make(models, 2)
    of = versions(models)
    for version in (2, 1) if what != "the version" else (2,):
        remove(models, version)
    if what == "the folder":
        models.rmdir()
    for _ in range(4):
        assert of.poll() is None
    assert len(caplog.records) == 1
    assert serving(of) == "2"
    make(models, 3)
    assert of.poll(now=True)
    assert serving(of) == "3"


def test_a_file_that_is_changed_in_its_place_is_taken_or_refused_like_a_new_one(models: Path) -> None:
    """A restart would take it too: workers that started at different times must not disagree."""
    of = versions(models)
    remove(models, 1)
    make(models, 1, probability=0.25)
    assert [bool(of.poll()) for _ in range(2)] == [False, True]
    assert of.model
    assert of.model(ROW)[0] == pytest.approx(0.25)
    (models / "1" / FILE).write_bytes(b"garbage")
    assert [of.poll() for _ in range(3)] == [None] * 3
    assert of.model(ROW)[0] == pytest.approx(0.25)


def test_the_file_serve_pins_a_version_and_its_absence_frees_it(models: Path) -> None:
    """Back and forth while it runs, without a restart."""
    make(models, 2)
    of = versions(models)
    (models / PIN).write_text("1\n")
    assert [bool(of.poll()) for _ in range(2)] == [False, True]
    assert serving(of) == "1"
    make(models, 3)
    assert [of.poll() for _ in range(3)] == [None] * 3
    (models / PIN).unlink()
    assert [bool(of.poll()) for _ in range(2)] == [False, True]
    assert serving(of) == "3"


def test_a_pin_that_is_being_written_is_no_fault(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`echo 1 > serve` empties the file before it writes."""
    make(models, 2)
    of = versions(models)
    for _ in range(3):
        (models / PIN).write_text("")
        assert of.poll() is None
        (models / PIN).write_text("2")
        assert of.poll() is None
    assert not caplog.records


@pytest.mark.parametrize("text", ["", "two", "-1", "1.0", "٢", "2 1", "99", "0", "\x00"])
def test_a_pin_that_names_no_version_changes_nothing(models: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """While it runs, one line; at the start, a refusal."""
    of = versions(models)
    (models / PIN).write_text(text)
    make(models, 2)
    for _ in range(4):
        assert of.poll() is None
    assert len(caplog.records) == 1
    assert serving(of) == "1"
    with pytest.raises(ArtefactError):
        versions(models)
    (models / PIN).unlink()
    assert [bool(of.poll()) for _ in range(2)] == [False, True]


def test_the_pin_is_read_by_all_who_load(models: Path) -> None:
    """`score` uses what serves, and without the file the highest."""
    make(models, 2)
    assert pinned(models) is None
    assert load(models, "cpu").version == "2"
    (models / PIN).write_text("1")
    assert pinned(models) == 1
    assert load(models, "cpu").version == "1"


def test_the_setting_pins_more_than_the_file_does(models: Path) -> None:
    """Said to one process, and kept by it, whatever lies in the folder."""
    make(models, 2)
    (models / PIN).write_text("garbage")
    of = versions(models, version=1)
    make(models, 3)
    assert of.poll(now=True) is None
    assert serving(of) == "1"
    with pytest.raises(ArtefactError, match=r"/7/model.onnx: No such file"):
        versions(models, version=7)


def test_a_process_starts_with_what_the_others_serve(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A bad new version keeps neither a restart nor a worker's replacement from serving; it is told once, not again."""
    make(models, 2).write_bytes(b"garbage")
    make(models, 3, fingerprint="f00")
    of = versions(models)
    assert serving(of) == "1"
    assert [of.poll() for _ in range(3)] == [None] * 3
    assert refused(of) == len(caplog.records) == 2
    remove(models, 1)
    with pytest.raises(ArtefactError, match=r"/3/model.onnx: its fingerprint"):
        versions(models)


def test_an_old_model_is_freed_with_the_last_run_that_uses_it(models: Path) -> None:
    """By reference counts alone: no collection need come by."""
    of = versions(models)
    gc.collect()
    gc.disable()
    try:
        run = of.model
        old = weakref.ref(of.model)
        make(models, 2)
        assert of.poll(now=True)
        assert run is old() is not None
        del run
        assert old() is None
    finally:
        gc.enable()


def test_an_error_while_loading_does_not_end_the_polling(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a lack of memory."""
    of = versions(models)
    make(models, 2)

    def fail(*_: object) -> Predictor:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("service.model.registry.load_file", fail)
        assert of.poll(now=True) is None
    assert refused(of) == 1
    assert of.poll(now=True)
    assert serving(of) == "2"


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A second session on the CPU in the GPU's place; while the list holds a fault, it fails with that."""
    fault: list[str] = []

    class Fragile(DeviceBuffers):
        def __call__(self, rows: Floats) -> Floats:
            if fault:
                raise RuntimeError(fault[0])
            return super().__call__(rows)

    monkeypatch.setattr(module, "create_gpu_session", lambda content, _gpu: session.create_cpu_session(content))
    monkeypatch.setattr(module, "on_device", lambda gpu, _mode: Fragile(gpu, "cpu"))
    return fault


@pytest.mark.parametrize("provider", ["cuda", "auto"])
def test_a_gpu_takes_a_new_version_as_it_took_the_first(models: Path, stand_in: list[str], provider: Provider) -> None:
    """On the GPU; under `cuda` or not at all."""
    of = versions(models, provider=provider, crossover=0)
    make(models, 2)
    assert of.poll(now=True)
    assert (serving(of), of.model and of.model.provider) == ("2", "CUDAExecutionProvider")
    if provider == "cuda":
        make(models, 3)
        stand_in.append("CUDA error: out of memory")
        assert of.poll(now=True) is None
        stand_in.clear()
        assert serving(of) == "2"
        assert of.poll(now=True)
        assert serving(of) == "3"


@pytest.mark.parametrize("provider", ["cuda", "auto"])
def test_a_lost_gpu_loads_no_other_model(
    models: Path, stand_in: list[str], provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    """Its context is broken until a restart."""
    of = versions(models, provider=provider, crossover=0)
    assert of.model
    assert not of.model.is_gpu_lost
    stand_in.append("CUDA failure 700")
    with pytest.raises(DeviceLost) if provider == "cuda" else nullcontext():
        of.model(ROW)
    assert of.model.is_gpu_lost
    make(models, 2)
    assert of.poll(now=True) is None
    assert "the GPU was lost" in caplog.text


def test_a_missing_gpu_is_not_the_versions_fault(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start no older version is tried instead."""
    make(models, 2)
    monkeypatch.setattr(session, "has_driver", lambda: False)
    with pytest.raises(ProviderError, match=r"NVIDIA driver|no CUDA"):
        versions(models, provider="cuda")
