"""Measure what a GPU gains: microseconds per run and rows per second in each mode, on the CPU, and of copying alone.

Usage: python -m benchmarks.gpu

Needs a CUDA device, numpy, pydantic and onnxruntime-gpu with its CUDA libraries. The table is printed and written
to benchmarks/RESULTS.md. Each round times every mode in turn; the median of the rounds counts.
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
from service.model.session import create_cpu_session, create_gpu_session
from service.settings import GpuMode

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- make bench-gpu writes from here -->", "<!-- to here -->"
LATENCY_ROWS = (1, 32, 1024, 65_536)  # rows per run, in the columns of the table
THROUGHPUT_ROWS = (4096, 16_384, 262_144)  # also tried for the best rows/s
ROUNDS = 30
ROUND_SECONDS = 0.02  # per mode and round
MODES: dict[str, GpuMode] = {"CUDA, plain": "plain", "CUDA, IOBinding": "iobinding"}

Timed = Callable[[Floats], object]


class Copies:
    """Copy a run's rows to the device and its probabilities back, as every mode must."""

    def __init__(self, count: int, device: str) -> None:
        self.rows = ort.OrtValue.ortvalue_from_shape_and_type((count, 13), np.float32, device)
        self.probabilities = ort.OrtValue.ortvalue_from_numpy(np.zeros((count, 1), np.float32), device)

    def __call__(self, rows: Floats) -> object:
        self.rows.update_inplace(rows)
        return self.probabilities.numpy()


def patients(count: int) -> Floats:
    """float32[count,13]: the data set repeated."""
    records = np.genfromtxt(ROOT / "trainer/data/cleveland.csv", np.float32, delimiter=",", skip_header=1)[:, :13]
    return np.resize(records, (count, 13))


def timed(runs: dict[str, Timed], count: int) -> dict[str, float]:
    """Median seconds of each run of `count` rows; in every round each is repeated for ROUND_SECONDS."""
    rows = patients(count)
    repeats = {}
    for name, run in runs.items():
        run(rows)
        begun = time.perf_counter()
        run(rows)
        repeats[name] = max(1, min(1000, int(ROUND_SECONDS / (time.perf_counter() - begun))))
    rounds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            begun = time.perf_counter()
            for _ in range(repeats[name]):
                run(rows)
            rounds[name].append((time.perf_counter() - begun) / repeats[name])
    return {name: statistics.median(times) for name, times in rounds.items()}


def table(runs: dict[str, Run], device: str) -> str:
    """Format the measurements as Markdown; the first of `runs` is the reference for the others' probabilities."""
    reference, *_ = runs.values()
    expected = reference(patients(LATENCY_ROWS[-1]))
    apart = {name: float(np.abs(run(patients(LATENCY_ROWS[-1])) - expected).max()) for name, run in runs.items()}
    seconds = {
        count: timed({**runs, "copying alone": Copies(count, device)}, count)
        for count in sorted(LATENCY_ROWS + THROUGHPUT_ROWS)
    }
    heads = " | ".join(f"µs, {count:,} row{'s' * (count > 1)}" for count in LATENCY_ROWS)
    lines = [
        f"| | {heads} | rows/s at best | with runs of | furthest from the CPU |",
        "|---|" + "---:|" * (len(LATENCY_ROWS) + 3),
    ]
    for name in (*runs, "copying alone"):
        cells = [f"{seconds[count][name] * 1e6:,.1f}" for count in LATENCY_ROWS]
        best = max(seconds, key=lambda count: count / seconds[count][name])
        cells += [f"{best / seconds[best][name]:,.0f}", f"{best:,}", f"{apart[name]:.1e}" if name in apart else ""]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def machine() -> str:
    """Describe the GPU and the software."""
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
    """Measure, print and write the results; returns the exit status."""
    model = max((ROOT / "models/heart_disease").glob("*/model.onnx"), key=lambda file: int(file.parent.name))
    content = model.read_bytes()
    runs: dict[str, Run] = {"CPU, one thread": DirectRun(create_cpu_session(content))}
    try:
        for name, mode in MODES.items():
            runs[name] = on_device(create_gpu_session(content, GpuOptions(mode)), mode)
    except ProviderError as error:
        return f"benchmarks.gpu: needs a CUDA device: {error}"
    text = f"{machine()}\n\n{table(runs, 'cuda')}"
    sys.stdout.write(text + "\n")
    put(BEGIN, END, text)
    return 0


if __name__ == "__main__":
    sys.exit(main() if sys.argv[1:] == [] else __doc__)
