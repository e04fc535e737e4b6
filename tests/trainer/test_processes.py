"""What happens to models/ when trainers meet, are interrupted or killed; and training by several processes as one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from patient.artefact import versions
from tests.conftest import CLEVELAND, ROOT
from trainer.dataset import Dataset
from trainer.export import TRITON_FILE
from trainer.fit import fit
from trainer.promote import ExportedModel
from trainer.recipe import Recipe

BRIEF = ["--repeats", "0", "--epochs", "10"]


def start(models: Path, *flags: str, **environment: str) -> subprocess.Popen[str]:
    """`python -m trainer fit` in a process of its own."""
    command = [sys.executable, "-m", "trainer", "fit", "--data", str(CLEVELAND), "--models", str(models), *flags]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    """Until it has said so."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    pytest.fail(f"it ended without saying {words!r}")


def test_two_trainers_at_once_make_two_whole_versions(tmp_path: Path) -> None:
    """Never the same number, never half of one."""
    trainers = [start(tmp_path, *BRIEF, "--force", "--seed", seed) for seed in ("1", "2")]
    for trainer in trainers:
        output, _ = trainer.communicate(timeout=120)
        assert trainer.returncode == 0, output
    assert versions(tmp_path) == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", TRITON_FILE]
    seeds = {ExportedModel(tmp_path / str(version) / "model.onnx").metadata.flags["seed"] for version in (1, 2)}
    assert seeds == {1, 2}


def test_kill_9_leaves_models_as_they_were(tmp_path: Path) -> None:
    """Whenever it comes."""
    trainer = start(tmp_path, "--epochs", "100000")
    wait_for(trainer, "Training on")
    time.sleep(2)
    trainer.kill()
    trainer.communicate(timeout=60)
    assert versions(tmp_path) == []


def test_ctrl_c_stops_after_the_epoch_and_leaves_what_is_there_aside(tmp_path: Path) -> None:
    """A failing exit status, no version, and a whole candidate for a look."""
    trainer = start(tmp_path, "--repeats", "0", "--epochs", "50000", "--test-share", "0.2")
    wait_for(trainer, "/50000")
    trainer.send_signal(signal.SIGINT)
    output, _ = trainer.communicate(timeout=120)
    assert trainer.returncode == 1, output
    assert "Stopping after this epoch" in output
    assert "not promoted: training stopped before the last epoch" in output
    assert versions(tmp_path) == []
    (candidate,) = tmp_path.glob("candidate-*")
    metadata = json.loads(
        next(pair.value for pair in onnx.load(candidate / "model.onnx").metadata_props if pair.key == "flags")
    )
    assert 1 < metadata["epochs"] < 50000


def test_several_workers_train_as_one(cleveland: Dataset, tmp_path: Path) -> None:
    """Two processes, each with its part of every minibatch, find what one finds alone; one of them writes."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    configs = [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}}) for i in (0, 1)]
    workers = [
        start(tmp_path / "two", *BRIEF, "--strategy", "multiworker", "--time-limit", "600", TF_CONFIG=c)
        for c in configs
    ]
    alone = start(tmp_path / "one", *BRIEF)
    for process in (*workers, alone):
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["1", TRITON_FILE]
    one, two = (ExportedModel(tmp_path / name / "1/model.onnx") for name in ("one", "two"))
    assert two.predict(cleveland.rows) == pytest.approx(one.predict(cleveland.rows), abs=1e-4)


def test_all_devices_of_a_host_train_as_one(cleveland: Dataset, tmp_path: Path) -> None:
    """MirroredStrategy over two devices (here two halves of the CPU) finds the weights that one device finds."""
    code = f"""
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from pathlib import Path
from trainer.dataset import read
from trainer.fit import fit_chunks
from trainer.recipe import Recipe
data = read(Path({str(CLEVELAND)!r}))
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
fitted = fit_chunks(lambda: [(data.rows, data.target)], Recipe(epochs=10), strategy=strategy)
np.save({str(tmp_path / "two.npy")!r}, fitted.predict(data.rows))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    alone = fit(cleveland.rows, cleveland.target, Recipe(epochs=10)).predict(cleveland.rows)
    assert np.load(tmp_path / "two.npy") == pytest.approx(alone, abs=1e-4)
