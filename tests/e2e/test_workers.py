"""Several worker processes are one service: a killed one is replaced, and nothing that it counted is lost."""

import asyncio
import json
import os
import re
import signal
import time
from pathlib import Path

from patient.record import EXAMPLE
from tests.e2e.serving import Connection, get, serving


def metric(port: int, name: str) -> float:
    """A sample of /metrics."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", get(port, "/metrics"), re.MULTILINE)
    assert found, name
    return float(found[1])


def workers(supervisor: int) -> list[int]:
    """The processes that serve."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def until_both_serve(port: int) -> None:
    """As readiness tells it."""
    for _ in range(200):
        if json.loads(get(port, "/health/ready"))["workers"] == 2:
            return
        time.sleep(0.05)
    raise AssertionError("the second worker did not come")


def test_a_killed_worker_is_replaced_and_no_other_request_fails() -> None:
    """kill -9 under load: only what that worker was answering is cut off, and the counts stay whole."""
    with serving("--workers", "2") as (port, supervisor):
        before = workers(supervisor)
        assert len(before) == 2
        until_both_serve(port)

        async def client(until: asyncio.Event) -> tuple[int, int]:
            served = cut = 0
            while not until.is_set():
                connection = await Connection.to(port)
                try:
                    for _ in range(20):
                        status, _, _ = await connection.post("/predict", EXAMPLE)
                        assert status == 200
                        served += 1
                except (ConnectionError, asyncio.IncompleteReadError):
                    cut += 1  # its connection was held by the worker that died
                finally:
                    connection.close()
            return served, cut

        async def work() -> tuple[int, int]:
            until = asyncio.Event()
            clients = [asyncio.ensure_future(client(until)) for _ in range(8)]
            await asyncio.sleep(0.3)
            os.kill(before[0], signal.SIGKILL)
            for _ in range(200):
                await asyncio.sleep(0.05)
                now = workers(supervisor)
                if len(now) == 2 and before[0] not in now:
                    break
            await asyncio.sleep(0.3)
            until.set()
            results = await asyncio.gather(*clients)
            return sum(served for served, _ in results), sum(cut for _, cut in results)

        served, cut = asyncio.run(work())
        assert cut <= 8  # a connection each, no more
        until_both_serve(port)
        after = workers(supervisor)
        assert len(after) == 2
        assert before[0] not in after
        assert served <= metric(port, 'heart_rows_total{way="single"}') <= served + cut
        assert served <= metric(port, 'heart_requests_total{route="/predict",status="200"}') <= served + cut
        assert served <= metric(port, 'heart_request_seconds_count{route="/predict"}') <= served + 2 * cut
        sex = f'heart_feature_total{{version="{json.loads(get(port, "/model"))["version"]}",feature="sex",bin="%d"}}'
        binned = sum(metric(port, sex % code) for code in (0, 1))
        assert served / 2 < binned <= served + cut  # of these the killed one takes its last tenth of a second along


def test_every_worker_tells_the_same() -> None:
    """Whichever of them is asked, the counts are those of all."""
    with serving("--workers", "2") as (port, _):

        async def work() -> None:
            connections = [await Connection.to(port) for _ in range(16)]
            for connection in connections:
                assert (await connection.post("/predict", EXAMPLE))[0] == 200
                connection.close()

        asyncio.run(work())
        told = {metric(port, 'heart_rows_total{way="single"}') for _ in range(20)}
        assert told == {16.0}
