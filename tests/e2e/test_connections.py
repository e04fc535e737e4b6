"""Many real connections at once: each client gets its own results, and none waits for another."""

import asyncio
import json
import re
from collections.abc import Iterator

import numpy as np
import pytest

from patient.record import EXAMPLE, FIELDS
from service.model.predictor import Predictor
from tests.e2e.serving import Connection, get, request, serving

CLIENTS, EACH = 48, 40


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A service that all tests share."""
    with serving() as (number, _):
        yield number


def probability(predictor: Predictor, age: float) -> float:
    """The probability for the worked example at another age."""
    row = np.array([[EXAMPLE[name] for name in FIELDS]], np.float32)
    row[0, 0] = age
    return float(predictor(row)[0])


def rows_and_runs(port: int) -> tuple[float, float]:
    """Single records scored so far, and the runs of the model that it took."""
    text = get(port, "/metrics")
    rows, runs = (re.search(rf'heart_{what}_total{{way="single"}} (\S+)', text) for what in ("rows", "runs"))
    assert rows
    assert runs
    return float(rows[1]), float(runs[1])


def test_each_client_gets_its_own_result_although_records_share_runs(port: int, predictor: Predictor) -> None:
    """Each client sends ages of its own, and invalid records in between, which get their own errors."""
    before = rows_and_runs(port)

    async def client(number: int) -> int:
        connection = await Connection.to(port)
        bad = 0
        for turn in range(EACH):
            age = 18 + (number * EACH + turn) % 100 + number / 100
            record = EXAMPLE | {"age": age}
            if (number + turn) % 7 == 0:
                status, _, body = await connection.post("/predict", record | {"chol": "high"})
                assert (status, [error["pointer"] for error in body["errors"]]) == (422, ["/chol"])
                bad += 1
            status, _, body = await connection.post("/predict", record)
            assert status == 200
            assert body["probability"] == pytest.approx(probability(predictor, age), abs=1e-6)
        connection.close()
        return bad

    async def work() -> list[int]:
        return await asyncio.gather(*(client(number) for number in range(CLIENTS)))

    assert sum(asyncio.run(work())) > 100
    rows, runs = (after - earlier for after, earlier in zip(rows_and_runs(port), before, strict=True))
    assert rows == CLIENTS * EACH
    assert runs < rows


def test_clients_that_disconnect_midway_do_not_affect_others(port: int, predictor: Predictor) -> None:
    """Half of the clients disconnect after a whole or half a request; all others get their results."""

    async def leaver(number: int) -> None:
        connection = await Connection.to(port)
        message = request("/predict", EXAMPLE)
        connection.writer.write(message if number % 2 else message[:-20])
        await connection.writer.drain()
        connection.close()

    async def stayer() -> float:
        connection = await Connection.to(port)
        status, _, body = await connection.post("/predict", EXAMPLE)
        connection.close()
        assert status == 200
        return float(body["probability"])

    async def work() -> list[float]:
        leavers = [leaver(number) for number in range(60)]
        stayers = [stayer() for _ in range(60)]
        results = await asyncio.gather(*(client for pair in zip(leavers, stayers, strict=True) for client in pair))
        return [result for result in results if result is not None]

    assert asyncio.run(work()) == pytest.approx([probability(predictor, EXAMPLE["age"])] * 60, abs=1e-6)
    assert json.loads(get(port, "/health/ready"))["status"] == "ready"


def test_requests_in_one_packet_are_answered_in_order(port: int, predictor: Predictor) -> None:
    """HTTP pipelining: later requests are in the buffer while the first is handled."""

    async def work() -> list[float]:
        connection = await Connection.to(port)
        connection.writer.write(b"".join(request("/predict", EXAMPLE | {"age": age}) for age in range(20, 60)))
        answers = [await connection.answer() for _ in range(20, 60)]
        connection.close()
        return [body["probability"] for _, _, body in answers]

    assert asyncio.run(work()) == pytest.approx([probability(predictor, age) for age in range(20, 60)], abs=1e-6)


def test_beyond_the_queue_requests_get_503_and_the_others_are_served() -> None:
    """At once, with Retry-After; the queue never grows beyond its limit."""
    with serving("--max-waiting", "2") as (port, _):

        async def client() -> list[int]:
            connection = await Connection.to(port)
            statuses = []
            for _ in range(EACH):
                status, headers, body = await connection.post("/predict", EXAMPLE)
                assert status == 200 or (headers["retry-after"], body["status"]) == ("1", 503)
                statuses.append(status)
            connection.close()
            return statuses

        async def work() -> list[int]:
            served = await asyncio.gather(*(client() for _ in range(CLIENTS)))
            return [status for statuses in served for status in statuses]

        statuses = asyncio.run(work())
        served, away = statuses.count(200), statuses.count(503)
        assert served + away == CLIENTS * EACH
        assert served > 0
        assert away > 0
        text = get(port, "/metrics")
        assert f"heart_overloads_total {away}.0" in text
        assert f'heart_rows_total{{way="single"}} {served}.0' in text


def test_probes_and_single_records_are_served_while_large_batches_run(port: int) -> None:
    """Four batches at a time, valid and invalid: single records get their results before the batches end."""
    good = request("/predict/batch", [EXAMPLE] * 10_000)
    bad = request("/predict/batch", [{**EXAMPLE, "chol": "high"}] * 10_000)

    async def batch(content: bytes, status: int) -> None:
        connection = await Connection.to(port)
        connection.writer.write(content)
        assert (await connection.answer())[0] == status
        connection.close()

    async def work() -> int:
        batches = asyncio.gather(*(batch(good, 200) for _ in range(2)), *(batch(bad, 422) for _ in range(2)))
        connection = await Connection.to(port)
        count = 0
        while not batches.done():
            status, _, _ = await connection.post("/predict", EXAMPLE)
            assert status == 200
            count += 1
        await batches
        connection.close()
        return count

    assert asyncio.run(work()) > 20
