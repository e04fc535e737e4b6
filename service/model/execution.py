"""Run rows through an ONNX Runtime session on the CPU or a GPU, and measure from how many rows on a GPU is faster."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import onnxruntime as ort

from patient.artefact import INPUT, OUTPUT
from patient.encoding import ROW_BYTES, Floats
from patient.record import EXAMPLE, FIELDS
from service.settings import GpuMode

Run = Callable[[Floats], Floats]  # float32[N,13], NaN = not taken, to float32[N] of probabilities; thread-safe

CHUNK_ROWS = 4096  # per run on the CPU: one run of 100,000 is half as fast, because its arrays leave the cache
MAX_HOST_ROWS = 256  # up to which host buffers are faster than an array
DEVICE_ROWS = (1, 32, 1024, 4096, 16_384, 65_536)  # of the buffers on a GPU
CROSSOVER_ROWS = DEVICE_ROWS[:-1]  # sizes that are timed; about 8 ms of CPU time together
EXAMPLES = np.array([[EXAMPLE[name] for name in FIELDS], [np.nan] * len(FIELDS)], np.float32)


class DirectRun:
    """Each run allocates what it needs; several threads may run at once. At most `chunk_rows` rows per run."""

    def __init__(self, session: ort.InferenceSession, chunk_rows: int = CHUNK_ROWS) -> None:
        self.session, self.chunk_rows = session, chunk_rows

    def __call__(self, rows: Floats) -> Floats:
        if not len(rows):
            return np.empty(0, np.float32)  # cuBLAS refuses a matrix without rows
        if len(rows) <= self.chunk_rows:
            probabilities: Floats = self.session.run([OUTPUT], {INPUT: rows})[0][:, 0]
            return probabilities
        starts = range(0, len(rows), self.chunk_rows)
        return np.concatenate([self(rows[start : start + self.chunk_rows]) for start in starts])


class HostBuffers:
    """Input and output buffers for 1, 2, 4, ... MAX_HOST_ROWS rows, bound to a CPU session. For one thread.

    Runs allocate no arrays: between two runs the event loop handles dozens of requests, which evict the code and memory
    of a run from the processor's caches.
    """

    def __init__(self, session: ort.InferenceSession) -> None:
        self.buffers = [HostBuffer(session, 2**n) for n in range(MAX_HOST_ROWS.bit_length())]

    def __call__(self, rows: Sequence[bytes]) -> list[float]:
        """Run 1 to MAX_HOST_ROWS rows, as patient.encoding.as_bytes makes them."""
        return self.buffers[(len(rows) - 1).bit_length()](rows)


class HostBuffer:
    """Buffers of one size. Rows left from an earlier run are computed again and ignored."""

    def __init__(self, session: ort.InferenceSession, size: int) -> None:
        rows, probabilities = np.zeros((size, len(FIELDS)), np.float32), np.zeros((size, 1), np.float32)
        self.session, self.binding = session, session.io_binding()
        self.values = [ort.OrtValue.ortvalue_from_numpy(array) for array in (rows, probabilities)]  # no copies
        self.binding.bind_ortvalue_input(INPUT, self.values[0])
        self.binding.bind_ortvalue_output(OUTPUT, self.values[1])
        self.rows, self.probabilities = rows.data.cast("B"), probabilities.data.cast("B").cast("f")

    def __call__(self, rows: Sequence[bytes]) -> list[float]:
        self.rows[: ROW_BYTES * len(rows)] = b"".join(rows)
        self.session.run_with_iobinding(self.binding)
        found: list[float] = self.probabilities[: len(rows)].tolist()  # type: ignore[assignment]  # cast to "f" above
        return found


def on_device(session: ort.InferenceSession, mode: GpuMode) -> Run:
    return DirectRun(session, DEVICE_ROWS[-1]) if mode == "plain" else DeviceBuffers(session, "cuda")


class DeviceBuffers:
    """Pads each run to one of a few sizes with fixed buffers on the device: no run allocates. One run at a time."""

    def __init__(self, session: ort.InferenceSession, device: str, sizes: tuple[int, ...] = DEVICE_ROWS) -> None:
        self.buffers = [DeviceBuffer(session, size, device) for size in sizes]
        self.lock = threading.Lock()

    def __call__(self, rows: Floats) -> Floats:
        largest = self.buffers[-1].size
        if len(rows) <= largest:
            buffer = next(buffer for buffer in self.buffers if buffer.size >= len(rows))
            with self.lock:
                return buffer(rows)
        return np.concatenate([self(rows[start : start + largest]) for start in range(0, len(rows), largest)])


class DeviceBuffer:
    """Buffers of one size, bound to the session. Used by one thread at a time."""

    def __init__(self, session: ort.InferenceSession, size: int, device: str) -> None:
        self.session, self.size = session, size
        self.padded = np.zeros((size, len(FIELDS)), np.float32)
        self.rows = ort.OrtValue.ortvalue_from_shape_and_type((size, len(FIELDS)), np.float32, device)
        self.probabilities = ort.OrtValue.ortvalue_from_shape_and_type((size, 1), np.float32, device)
        self.binding = session.io_binding()
        self.binding.bind_ortvalue_input(INPUT, self.rows)
        self.binding.bind_ortvalue_output(OUTPUT, self.probabilities)

    def __call__(self, rows: Floats) -> Floats:
        """Run float32[N,13] with N <= size. Results of the padding are ignored."""
        count = len(rows)
        if count < self.size:
            self.padded[:count] = rows
            rows = self.padded
        self.rows.update_inplace(np.ascontiguousarray(rows, np.float32))  # it copies bytes without checking the type
        self.session.run_with_iobinding(self.binding)
        probabilities: Floats = self.probabilities.numpy()[:count, 0].copy()  # on the CPU a view of the buffer
        return probabilities


def time_run(run: Run, rows: Floats) -> float:
    """Return the seconds of one run."""
    start = time.perf_counter()
    run(rows)
    return time.perf_counter() - start


def measure_crossover(cpu: Run, gpu: Run, cost: Callable[[Run, Floats], float] = time_run) -> int | None:
    """Return the rows from which on the GPU is never slower; None if it is not faster at the largest size.

    Compares the medians of five runs at each size, which take about 50 ms together. Between two sizes the CPU's cost
    is interpolated linearly; the GPU's is that of the larger size, to which its buffers are padded.
    """
    costs: list[tuple[int, float, float]] = []
    for size in CROSSOVER_ROWS:
        rows = EXAMPLES[:1].repeat(size, axis=0)
        pairs = [(cost(cpu, rows), cost(gpu, rows)) for _ in range(5)]
        costs.append((size, *np.median(pairs, axis=0).tolist()))
    if costs[-1][2] >= costs[-1][1]:
        return None
    for (low, cpu_low, gpu_low), (high, cpu_high, gpu_high) in reversed(list(pairwise(costs))):
        if gpu_high > cpu_low:  # the costs are equal somewhere between the two sizes
            even = math.ceil((gpu_high - cpu_low) / (cpu_high - cpu_low) * (high - low))
            if even > 1:
                return low + even
        if gpu_low >= cpu_low:
            return low + 1
    return 0
