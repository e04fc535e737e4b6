"""Concurrent records share a run of the model; none waits for a timer, and each gets its own result."""

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import numpy as np
import pytest

from patient.record import EXAMPLE, FIELDS
from service.http.micro_batcher import MicroBatcher
from service.http.problems import Problem
from service.model.predictor import Predictor
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
