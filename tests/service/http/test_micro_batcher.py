"""Concurrent records share a run; none waits for a timer, harms another, or gets another's answer."""

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
    """In a fresh event loop."""
    return asyncio.run(work)


def test_records_of_one_moment_share_a_run_and_keep_their_order(predictor: Predictor) -> None:
    """Twenty records, one run, everybody's own answer."""
    ages = np.linspace(20, 90, 20)
    row = np.array([EXAMPLE[name] for name in FIELDS], np.float32)
    row[FIELDS.index("ca")] = np.nan
    rows = np.tile(row, (20, 1))
    rows[:, 0] = ages

    async def work() -> tuple[MicroBatcher, list[Any]]:
        runs = MicroBatcher(lambda: predictor, 100, Metrics())
        return runs, await asyncio.gather(*(runs.submit(patient(age)) for age in ages))

    runs, answers = run(work())
    now = runs.metrics.snapshot()
    assert (now.total(RUNS, "single"), now.total(ROWS, "single")) == (1, 20)
    assert [probability for _, probability in answers] == pytest.approx(predictor(rows), abs=1e-7)
    assert all(model is predictor for model, _ in answers)


def test_a_lone_record_runs_at_once(predictor: Predictor) -> None:
    """In the very next turn of the event loop."""

    async def work() -> bool:
        future = MicroBatcher(lambda: predictor, 100, Metrics()).submit(patient(50))
        await asyncio.sleep(0)
        return future.done()

    assert run(work())


def test_beyond_its_limit_the_queue_refuses(predictor: Predictor) -> None:
    """With 503 and when to come back; those who wait already are served, and the next turn has room again."""

    async def work() -> None:
        runs = MicroBatcher(lambda: predictor, 3, Metrics())
        waiting = [runs.submit(patient(50)) for _ in range(3)]
        with pytest.raises(Problem) as caught:
            runs.submit(patient(50))
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
        await asyncio.gather(*waiting)
        await runs.submit(patient(50))

    run(work())


def test_a_client_that_has_gone_harms_nobody(predictor: Predictor) -> None:
    """Its answer is dropped; the others get theirs."""

    async def work() -> Any:
        runs = MicroBatcher(lambda: predictor, 10, Metrics())
        first, gone, last = (runs.submit(patient(50)) for _ in range(3))
        gone.cancel()
        return await asyncio.gather(first, last)

    assert len(run(work())) == 2


def test_a_run_that_fails_tells_everybody_who_waits(predictor: Predictor) -> None:
    """Nobody hangs, and the next run is unharmed."""
    broken = [True]

    class Model:
        def predict_bytes(self, rows: list[bytes]) -> list[float]:
            if broken.pop():
                raise RuntimeError("device lost")
            return predictor.predict_bytes(rows)

    async def work() -> None:
        runs = MicroBatcher(lambda: cast(Predictor, Model()), 10, Metrics())  # as much of one as a run needs
        waiting = [runs.submit(patient(50)) for _ in range(2)]
        waiting[1].cancel()
        with pytest.raises(RuntimeError, match="device lost"):
            await waiting[0]
        broken.append(False)
        await runs.submit(patient(50))
        now = runs.metrics.snapshot()
        assert (now.total(RUNS, "single"), now.total(ROWS, "single")) == (1, 1)

    run(work())
