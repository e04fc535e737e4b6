"""From how many rows on a run is faster on the GPU: measured when the service starts, in some 50 ms."""

import math
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from patient.encoding import Floats
from patient.record import EXAMPLE, FIELDS
from service.model.execution import Run

SIZES = (1, 32, 1024, 4096, 16_384)  # rows; some 8 ms of the CPU's time together
REPEATS = 5

Cost = Callable[[Run, Floats], float]


def seconds(run: Run, rows: Floats) -> float:
    """What one run takes."""
    begun = time.perf_counter()
    run(rows)
    return time.perf_counter() - begun


def crossover(cpu: Run, gpu: Run, cost: Cost = seconds) -> int | None:
    """Rows from which on the GPU is never slower; None if it is not faster even at the largest size that is tried.

    Median of several runs each, CPU and GPU in turn. Between two sizes the CPU's cost is taken for linear, and the
    GPU's for that of the larger one, to which its buffers are padded.
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
        if gpu_high > cpu_low:  # even somewhere between the two
            even = math.ceil((gpu_high - cpu_low) / (cpu_high - cpu_low) * (high - low))
            if even > 1:
                return low + even
        if gpu_low >= cpu_low:
            return low + 1
    return 0
