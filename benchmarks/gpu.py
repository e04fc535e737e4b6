"""What a GPU gains: microseconds a run and rows a second in each mode, beside the CPU and beside copying alone.

Usage: python -m benchmarks.gpu

Needs a CUDA device, numpy, pydantic and onnxruntime-gpu with its CUDA libraries. The table is printed, and takes its
place in benchmarks/RESULTS.md. Every way is timed in turn in each round, and the median of the rounds counts.
"""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.results import put
from patient.encoding import Floats
from service.model.device import GpuOptions, ProviderError
from service.model.execution import DirectRun, Run, on_device
from service.model.session import on_cpu, on_gpu
from service.settings import GpuMode

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- make bench-gpu writes from here -->", "<!-- to here -->"
DEVICE_ROWS = (1, 32, 1024, 65_536)  # rows of which the run is timed
THROUGHPUT = (4096, 16_384, 262_144)  # and which the best rows/s is looked for in, too
ROUNDS, BUDGET = 30, 0.02  # seconds that a way may take in a round
WAYS: dict[str, tuple[GpuMode, Callable[[ort.InferenceSession], Run]]] = {
    "CUDA, plain": ("plain", lambda session: on_device(session, "plain")),
    "CUDA, IOBinding": ("iobinding", lambda session: on_device(session, "iobinding")),
}

Way = Callable[[Floats], object]


class Copies:
    """What any way must do: a run's rows to the device, and its answers back."""

    def __init__(self, count: int, device: str) -> None:
        self.rows = ort.OrtValue.ortvalue_from_shape_and_type((count, 13), np.float32, device)
        self.answers = ort.OrtValue.ortvalue_from_numpy(np.zeros((count, 1), np.float32), device)

    def __call__(self, rows: Floats) -> object:
        """Both ways, one after the other."""
        self.rows.update_inplace(rows)
        return self.answers.numpy()


def patients(count: int) -> Floats:
    """float32[count,13]: the data set over and over."""
    records = np.genfromtxt(ROOT / "trainer/data/cleveland.csv", np.float32, delimiter=",", skip_header=1)[:, :13]
    return np.resize(records, (count, 13))


def timed(ways: dict[str, Way], count: int) -> dict[str, float]:
    """Seconds a run of so many rows takes each way: in every round, each way for as many runs as its budget allows."""
    rows = patients(count)
    repeats = {}
    for name, way in ways.items():
        way(rows)
        begun = time.perf_counter()
        way(rows)
        repeats[name] = max(1, min(1000, int(BUDGET / (time.perf_counter() - begun))))
    rounds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begun = time.perf_counter()
            for _ in range(repeats[name]):
                way(rows)
            rounds[name].append((time.perf_counter() - begun) / repeats[name])
    return {name: statistics.median(times) for name, times in rounds.items()}


def table(runs: dict[str, Run], device: str) -> str:
    """All ways as Markdown; `runs` begins with the one that the others' answers are held to."""
    reference, *_ = runs.values()
    wanted = reference(patients(DEVICE_ROWS[-1]))
    apart = {name: float(np.abs(run(patients(DEVICE_ROWS[-1])) - wanted).max()) for name, run in runs.items()}
    seconds = {
        count: timed({**runs, "copying alone": Copies(count, device)}, count)
        for count in sorted(DEVICE_ROWS + THROUGHPUT)
    }
    heads = " | ".join(f"µs, {count:,} row{'s' * (count > 1)}" for count in DEVICE_ROWS)
    lines = [
        f"| | {heads} | rows/s at best | with runs of | furthest from the CPU |",
        "|---|" + "---:|" * (len(DEVICE_ROWS) + 3),
    ]
    for name in (*runs, "copying alone"):
        cells = [f"{seconds[count][name] * 1e6:,.1f}" for count in DEVICE_ROWS]
        best = max(seconds, key=lambda count: count / seconds[count][name])
        cells += [f"{best / seconds[best][name]:,.0f}", f"{best:,}", f"{apart[name]:.1e}" if name in apart else ""]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def machine() -> str:
    """The GPU's own name and its surroundings."""
    query = [
        "nvidia-smi",
        "--query-gpu=name,driver_version,pcie.link.gen.max,pcie.link.width.max",
        "--format=csv,noheader",
    ]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0].split(", ")
        gpu = f"{found[0]}, driver {found[1]}, PCIe {found[2]} x{found[3]}"
    except (OSError, subprocess.CalledProcessError, IndexError):
        gpu = "a GPU that nvidia-smi does not name"
    versions = f"Python {platform.python_version()}, ONNX Runtime {ort.__version__}, numpy {np.__version__}"
    return f"{gpu}; {os.cpu_count()} CPU cores, of which one is used; {versions}."


def main() -> int | str:
    """Measure, print, and write the results; returns what the process exits with."""
    model = max((ROOT / "models/heart_disease").glob("*/model.onnx"), key=lambda file: int(file.parent.name))
    content = model.read_bytes()
    runs: dict[str, Run] = {"CPU, one thread": DirectRun(on_cpu(content))}
    try:
        for name, (mode, way) in WAYS.items():
            runs[name] = way(on_gpu(content, GpuOptions(mode)))
    except ProviderError as error:
        return f"benchmarks.gpu: needs a CUDA device: {error}"
    text = f"{machine()}\n\n{table(runs, 'cuda')}"
    sys.stdout.write(text + "\n")
    put(BEGIN, END, text)
    return 0


if __name__ == "__main__":
    sys.exit(main() if sys.argv[1:] == [] else __doc__)
