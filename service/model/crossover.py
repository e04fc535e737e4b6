"""Measure from how many rows on a run is faster on the GPU: at start-up, in about 50 ms."""

import math
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from patient.encoding import Floats
from patient.record import EXAMPLE, FIELDS
from service.model.execution import Run

SIZES = (1, 32, 1024, 4096, 16_384)  # rows; about 8 ms of CPU time together
REPEATS = 5


def time_run(run: Run, rows: Floats) -> float:
    """Return the seconds of one run."""
    start = time.perf_counter()
    run(rows)
    return time.perf_counter() - start


def measure_crossover(cpu: Run, gpu: Run, cost: Callable[[Run, Floats], float] = time_run) -> int | None:
    """Return the number of rows from which on the GPU is never slower; None if it is not faster at the largest size.

    Takes the median of several runs, alternating CPU and GPU. Between two sizes the CPU's cost is interpolated
    linearly; the GPU's is that of the larger size, to which its buffers are padded.
    """
    example = np.array([[EXAMPLE[name] for name in FIELDS]], np.float32)
    costs: list[tuple[int, float, float]] = []
    for size in SIZES:
        rows = np.repeat(example, size, axis=0)
        pairs = [(cost(cpu, rows), cost(gpu, rows)) for _ in range(REPEATS)]
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
