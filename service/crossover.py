"""From how many rows on a run is faster on the GPU: measured when the service starts, in some 50 ms."""

import statistics
import time
from collections.abc import Callable

import numpy as np

from patient.encoding import Floats
from patient.record import EXAMPLE, FIELDS
from service.rows import Run

SIZES = (1, 32, 1024, 4096, 16_384)  # rows; some 8 ms of the CPU's time together
REPEATS = 5

Cost = Callable[[Run, Floats], float]


def seconds(run: Run, rows: Floats) -> float:
    """What one run takes."""
    begun = time.perf_counter()
    run(rows)
    return time.perf_counter() - begun


def crossover(cpu: Run, gpu: Run, cost: Cost = seconds) -> int | None:
    """Rows from which on the GPU is faster; None if it is not even at the largest size that is tried.

    Median of several runs each, CPU and GPU in turn. Between the last size that the CPU wins and the first that the GPU
    wins, the GPU's cost is taken for constant (its buffers are padded to the larger size) and the CPU's for linear.
    """
    example = np.array([[EXAMPLE[name] for name in FIELDS]], np.float32)
    costs = []
    for size in SIZES:
        rows = np.repeat(example, size, axis=0)
        pairs = [(cost(cpu, rows), cost(gpu, rows)) for _ in range(REPEATS)]
        costs.append((statistics.median(c for c, _ in pairs), statistics.median(g for _, g in pairs)))
    first = len(SIZES)
    while first and costs[first - 1][1] < costs[first - 1][0]:
        first -= 1
    if first == len(SIZES):
        return None
    if first == 0:
        return 0
    (low, high), (low_cost, high_cost) = SIZES[first - 1 : first + 1], (costs[first - 1][0], costs[first][0])
    share = (costs[first][1] - low_cost) / (high_cost - low_cost) if high_cost > low_cost else 1.0
    return low + 1 + round((high - low - 1) * min(max(share, 0.0), 1.0))
