"""Several worker processes act as one service. Killed workers: tests/faults/test_processes.py."""

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from patient.record import EXAMPLE
from tests.conftest import ROOT
from tests.e2e.serving import Connection, free_port, get, serving, wait_until_ready
from tests.faults.machine import until


def metric(port: int, name: str) -> float:
    """The value of a sample of /metrics."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", get(port, "/metrics"), re.MULTILINE)
    assert found, name
    return float(found[1])


def workers(supervisor: int) -> list[int]:
    """The ids of the worker processes."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def until_both_serve(port: int) -> None:
    """Wait until /health/ready counts two workers."""
    for _ in range(200):
        if json.loads(get(port, "/health/ready"))["workers"] == 2:
            return
        time.sleep(0.05)
    raise AssertionError("the second worker did not come")


def test_every_worker_reports_the_counts_of_all() -> None:
    """Whichever worker responds, /metrics counts the requests of all."""
    with serving("--workers", "2") as (port, _):

        async def work() -> None:
            connections = [await Connection.to(port) for _ in range(16)]
            for connection in connections:
                assert (await connection.post("/predict", EXAMPLE))[0] == 200
                connection.close()

        asyncio.run(work())
        counts = {metric(port, 'heart_rows_total{way="single"}') for _ in range(20)}
        assert counts == {16.0}


def test_no_worker_survives_its_supervisor() -> None:
    """Not even kill -9 of it: orphans would keep the port, and say that they are ready."""
    port = free_port()
    command = [sys.executable, "-m", "service", "--provider", "cpu", "--port", str(port), "--workers", "2"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as supervisor:
        wait_until_ready(port, supervisor)
        until_both_serve(port)
        left = workers(supervisor.pid)
        assert len(left) == 2
        supervisor.kill()
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in left), 5)
    socket.create_server(("127.0.0.1", port)).close()
