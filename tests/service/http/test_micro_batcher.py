"""Concurrent records share a run of the model; none waits for a timer, and each gets its own result."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, cast

import numpy as np
import pytest

from patient.encoding import Floats
from patient.record import EXAMPLE, FIELDS
from service.http.micro_batcher import SINGLE_RUNS, MicroBatcher
from service.http.problems import Problem
from service.model.device import DeviceLost
from service.model.predictor import Predictor
from service.model.session import CUDA
from service.observe.metrics import ROWS, RUNS, Metrics
from service.records.decoding import Values


def patient(age: float) -> Values:
    """The worked example, at another age and without `ca`."""
    return tuple((EXAMPLE | {"age": age, "ca": None}).values())


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_records_that_wait_together_share_a_run_in_order(predictor: Predictor) -> None:
    """Twenty records, one run, twenty results."""
    ages = np.linspace(20, 90, 20)
    row = np.array([EXAMPLE[name] for name in FIELDS], np.float32)
    row[FIELDS.index("ca")] = np.nan
    rows = np.tile(row, (20, 1))
    rows[:, 0] = ages

    async def work() -> tuple[MicroBatcher, list[Any]]:
        batcher = MicroBatcher(lambda: predictor, 100, Metrics())
        return batcher, await asyncio.gather(*(batcher.submit(patient(age)) for age in ages))

    batcher, answers = run(work())
    now = batcher.metrics.snapshot()
    assert (now.total(RUNS, "single"), now.total(ROWS, "single")) == (1, 20)
    assert [probability for _, probability in answers] == pytest.approx(predictor(rows), abs=1e-7)
    assert all(model is predictor for model, _ in answers)


def test_a_single_record_runs_at_once(predictor: Predictor) -> None:
    """In the next iteration of the event loop."""

    async def work() -> bool:
        future = MicroBatcher(lambda: predictor, 100, Metrics()).submit(patient(50))
        await asyncio.sleep(0)
        return future.done()

    assert run(work())


def test_a_full_queue_rejects_the_next_record(predictor: Predictor) -> None:
    """With 503 and Retry-After; waiting records are served, and then there is room again."""

    async def work() -> None:
        batcher = MicroBatcher(lambda: predictor, 3, Metrics())
        waiting = [batcher.submit(patient(50)) for _ in range(3)]
        with pytest.raises(Problem) as caught:
            batcher.submit(patient(50))
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
        await asyncio.gather(*waiting)
        await batcher.submit(patient(50))

    run(work())


def test_a_cancelled_record_does_not_affect_the_others(predictor: Predictor) -> None:
    """The other records of its run get their results."""

    async def work() -> Any:
        batcher = MicroBatcher(lambda: predictor, 10, Metrics())
        first, gone, last = (batcher.submit(patient(50)) for _ in range(3))
        gone.cancel()
        return await asyncio.gather(first, last)

    assert len(run(work())) == 2


def test_a_run_that_fails_fails_every_record_in_it(predictor: Predictor) -> None:
    """No request hangs, and the next run succeeds."""
    broken = [True]

    class Model:
        def predict_bytes(self, rows: list[bytes]) -> list[float]:
            if broken.pop():
                raise RuntimeError("device lost")
            return predictor.predict_bytes(rows)

        def runs_on_gpu(self, _rows: int) -> bool:
            return False

    async def work() -> None:
        batcher = MicroBatcher(lambda: cast(Predictor, Model()), 10, Metrics())
        waiting = [batcher.submit(patient(50)) for _ in range(2)]
        waiting[1].cancel()
        with pytest.raises(RuntimeError, match="device lost"):
            await waiting[0]
        broken.append(False)
        await batcher.submit(patient(50))
        now = batcher.metrics.snapshot()
        assert (now.total(RUNS, "single"), now.total(ROWS, "single")) == (1, 1)

    run(work())


def test_after_runs_of_one_record_the_next_runs_as_it_arrives_until_two_arrive_together(predictor: Predictor) -> None:
    """The second of two in the same iteration of the loop waits for others."""

    async def work() -> list[int]:
        batcher = MicroBatcher(lambda: predictor, 100, Metrics())
        for _ in range(SINGLE_RUNS):
            await batcher.submit(patient(50))
        counts = []
        for _ in range(2):
            first = batcher.submit(patient(50))
            assert first.done()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        together = [batcher.submit(patient(age)) for age in range(40, 50)]
        counts.append(sum(future.done() for future in together))
        await asyncio.gather(*together)
        again = batcher.submit(patient(50))
        counts.append(again.done())
        await again
        return counts

    assert run(work()) == [1, 0]


def slow_gpu(predictor: Predictor, released: threading.Event, fails: bool = False) -> Predictor:
    """A model whose every run goes to a stand-in for a GPU, and ends when the event is set."""

    def gpu(rows: Floats) -> Floats:
        assert released.wait(10)
        if fails:
            raise RuntimeError("out of memory")
        return predictor(rows)

    return Predictor(predictor.metadata, CUDA, None, gpu, crossover=0)


def test_a_run_on_the_gpu_does_not_hold_the_event_loop(predictor: Predictor) -> None:
    """Records that arrive meanwhile share the next run."""
    released = threading.Event()
    model = slow_gpu(predictor, released)

    async def work() -> tuple[list[Any], Metrics]:
        batcher = MicroBatcher(lambda: model, 100, Metrics())
        first = batcher.submit(patient(30))
        while not batcher.is_gpu_busy:
            await asyncio.sleep(0)
        later = [batcher.submit(patient(age)) for age in (40, 50, 60)]
        for _ in range(10):
            await asyncio.sleep(0.001)
        assert not first.done()  # and the loop runs
        released.set()
        return await asyncio.gather(first, *later), batcher.metrics

    answers, metrics = run(work())
    rows = np.array([[np.nan if value is None else value for value in patient(age)] for age in (30, 40, 50, 60)])
    assert [found for _, found in answers] == pytest.approx(predictor(rows.astype(np.float32)), abs=1e-7)
    now = metrics.snapshot()
    assert (now.total(RUNS, "single"), now.total(ROWS, "single")) == (2, 4)


def test_a_failed_run_on_the_gpu_fails_its_records_and_the_next_one_runs(predictor: Predictor) -> None:
    """The GPU is lost: without a CPU to fall back to, each record gets the error."""
    released = threading.Event()
    model = slow_gpu(predictor, released, fails=True)

    async def work() -> list[Any]:
        batcher = MicroBatcher(lambda: model, 100, Metrics())
        first = batcher.submit(patient(30))
        while not batcher.is_gpu_busy:
            await asyncio.sleep(0)
        second = batcher.submit(patient(40))
        released.set()
        return list(await asyncio.gather(first, second, return_exceptions=True))

    assert [type(error) for error in run(work())] == [DeviceLost, DeviceLost]
