"""Small runs go to the CPU, and to the GPU from the size on at which it is faster."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patient.encoding import Floats
from service.model.execution import CROSSOVER_ROWS, Run, measure_crossover, time_run
from service.model.predictor import Predictor


def cpu(rows: Floats) -> Floats:
    """Stands for the CPU."""
    return rows[:, 0]


def gpu(rows: Floats) -> Floats:
    """Stands for the GPU."""
    return rows[:, 0]


def costing(cpu_cost: Callable[[int], float], gpu_cost: Callable[[int], float]) -> Callable[[Run, Floats], float]:
    """A cost in place of a clock."""
    return lambda run, rows: (cpu_cost if run is cpu else gpu_cost)(len(rows))


def padded(count: int) -> int:
    """The bucket that holds so many rows."""
    return next(size for size in CROSSOVER_ROWS if size >= count)


@given(
    start=st.floats(1, 100),
    row=st.floats(0.01, 10),
    launch=st.floats(1, 10_000),
    copy=st.floats(0.0001, 0.1),
)
def test_from_the_crossover_on_the_gpu_is_faster_and_below_it_the_cpu(
    start: float, row: float, launch: float, copy: float
) -> None:
    """For a CPU that costs so much a row, and a GPU that costs its launch and the copying of its bucket."""

    def on_cpu(count: int) -> float:
        return start + row * count

    def on_gpu(count: int) -> float:
        return launch + copy * padded(count)

    found = measure_crossover(cpu, gpu, costing(on_cpu, on_gpu))
    if found is None:
        assert on_gpu(CROSSOVER_ROWS[-1]) >= on_cpu(CROSSOVER_ROWS[-1])
        return
    slack = 1e-6 * on_cpu(CROSSOVER_ROWS[-1])
    for count in {found, found + 1, 2 * found, *CROSSOVER_ROWS, *(size + 1 for size in CROSSOVER_ROWS)}:
        if max(found, 1) <= count <= CROSSOVER_ROWS[-1]:
            assert on_gpu(count) <= on_cpu(count) + slack
    if found > 1:
        assert on_gpu(found - 1) >= on_cpu(found - 1) - slack


@given(
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=len(CROSSOVER_ROWS), max_size=len(CROSSOVER_ROWS))
)
def test_whatever_a_noisy_machine_measures_gives_a_crossover(costs: list[tuple[float, float]]) -> None:
    """Within the sizes that were tried."""
    cpu_cost, gpu_cost = (dict(zip(CROSSOVER_ROWS, column, strict=True)) for column in zip(*costs, strict=True))
    found = measure_crossover(cpu, gpu, costing(lambda n: cpu_cost[n], lambda n: gpu_cost[n]))
    assert found is None or 0 <= found <= CROSSOVER_ROWS[-1]


def test_a_gpu_that_is_always_faster_takes_everything() -> None:
    """From 0 rows on."""
    assert measure_crossover(cpu, gpu, costing(lambda _: 2.0, lambda _: 1.0)) == 0


def test_a_size_that_the_gpu_wins_from_its_first_row_on_is_no_boundary() -> None:
    """33 rows cost the CPU 33 and the GPU 32.5, and 32 rows cost the GPU less too: there is nothing between them."""
    assert measure_crossover(cpu, gpu, costing(lambda n: n, lambda n: 32.5 if n == 1024 else 0.5)) == 0


def test_a_gpu_that_is_never_faster_takes_nothing() -> None:
    """Nor one that is as fast: the CPU needs no copying."""
    assert measure_crossover(cpu, gpu, costing(lambda _: 1.0, lambda _: 1.0)) is None


def test_a_gpu_that_wins_small_runs_only_by_accident_takes_none_of_them() -> None:
    """It counts from where on it never loses again."""
    found = measure_crossover(
        cpu, gpu, costing(lambda n: {1: 9.0, 32: 1.0}.get(n, n), lambda n: {1: 1.0, 32: 2.0}.get(n, 3.0))
    )
    assert found is not None
    assert 32 < found <= 1024


def test_one_run_that_was_held_up_does_not_decide() -> None:
    """The median counts: a hiccup of the machine hits one run."""
    runs: list[int] = []

    def cost(run: Run, rows: Floats) -> float:
        runs.append(len(rows))
        return 1000.0 if runs.count(len(rows)) == 2 else (1.0 if run is gpu else 2.0)

    assert measure_crossover(cpu, gpu, cost) == 0


def test_the_clock_times_the_run_it_was_given() -> None:
    """And the run gets the rows."""
    seen: list[int] = []

    def run(rows: Floats) -> Floats:
        seen.append(len(rows))
        return rows[:, 0]

    assert time_run(run, np.zeros((3, 13), np.float32)) >= 0
    assert seen == [3]


@pytest.mark.parametrize(("count", "runs"), [(1, "cpu"), (99, "cpu"), (100, "gpu"), (5000, "gpu")])
def test_a_run_goes_where_its_rows_belong(predictor: Predictor, count: int, runs: str) -> None:
    """Fewer rows than the crossover to the CPU, the others to the GPU."""
    went: list[str] = []

    def to(name: str) -> Run:
        def run(rows: Floats) -> Floats:
            went.append(name)
            return rows[:, 0]

        return run

    model = Predictor(predictor.metadata, "CUDAExecutionProvider", to("cpu"), to("gpu"), crossover=100)
    model(np.zeros((count, 13), np.float32))
    assert went == [runs]
