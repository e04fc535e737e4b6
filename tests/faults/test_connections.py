"""Connections: more than anybody needs, more than there are descriptors for, and clients that leave."""

import contextlib
import http.client
import json
import resource
import select
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from patient.record import EXAMPLE
from tests.conftest import Outcome
from tests.e2e.serving import COMMAND, get, request, serving
from tests.faults.load import Load
from tests.faults.machine import descriptors, memory, until
from tests.faults.test_processes import ready

IDLE = 10_000
SPARE = 500  # descriptors that a test needs beside


@pytest.fixture
def wide() -> Iterator[int]:
    """How many connections this process may hold: its limit is raised as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(IDLE, hard - SPARE) if hard != resource.RLIM_INFINITY else IDLE
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def cpu(process: int) -> float:
    """Seconds of processor time that it has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_ten_thousand_idle_connections_cost_memory_and_nobody_elses_answers(
    wide: int,
    outcome: Outcome,
    probability: float,
) -> None:
    """They are taken even where the soft limit of descriptors is the usual 1,024, and are given back."""
    limited = ("prlimit", f"--nofile=1024:{resource.getrlimit(resource.RLIMIT_NOFILE)[1]}")
    with serving(command=(*limited, *COMMAND)) as (port, server), contextlib.ExitStack() as idle:
        with Load(port, probability, 4) as load:
            time.sleep(0.5)
        alone, before, open_before = load.answered, memory(server, "VmRSS"), descriptors(server)
        begun = time.monotonic()
        for _ in range(wide):
            idle.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        until(lambda: descriptors(server) >= wide)
        taken, after = time.monotonic() - begun, memory(server, "VmRSS")
        with Load(port, probability, 4) as load:
            time.sleep(0.5)
        assert load.statuses.keys() == {200}
        assert (load.cut, load.refused, load.wrong) == (0, 0, 0)
        assert load.answered > alone / 4
        outcome(
            f"{wide:,} taken in {taken:.1f} s; {(after - before) * 1024 / wide:.1f} KiB each; "
            f"4 clients beside them were answered {load.answered} times, without them {alone}"
        )
        idle.close()
        until(lambda: descriptors(server) <= open_before + 20)


def ask(connection: http.client.HTTPConnection) -> int:
    """The status of a record's answer."""
    connection.request("POST", "/predict", json.dumps(EXAMPLE), {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    return response.status


def test_without_descriptors_who_is_connected_is_served_and_afterwards_everybody(outcome: Outcome) -> None:
    """New connections are closed at once and do not spin the loop; no restart is needed."""
    with serving(command=("prlimit", "--nofile=48:48", *COMMAND)) as (port, server):
        early = [http.client.HTTPConnection("127.0.0.1", port, timeout=10) for _ in range(4)]
        assert {ask(connection) for connection in early} == {200}
        with contextlib.ExitStack() as crowd:
            late = [crowd.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(100)]
            time.sleep(0.2)
            sent_away = sum(bool(select.select([connection], [], [], 0)[0]) for connection in late)
            begun, used = time.monotonic(), cpu(server)
            while time.monotonic() < begun + 0.5:
                assert {ask(connection) for connection in early} == {200}
                time.sleep(0.05)
            busy = (cpu(server) - used) / (time.monotonic() - begun)
        assert sent_away >= 50
        assert busy < 0.9  # of a core: it does not try again and again
        seconds = until(lambda: ready(port) == 200)
        for connection in early:
            connection.close()
        outcome(f"{sent_away} of 100 sent away, {busy:.0%} of a core used meanwhile; right again after {seconds:.2f} s")


BODIES = {
    "array": ("application/json", json.dumps([EXAMPLE] * 5000).encode()),
    "ndjson": ("application/x-ndjson", (json.dumps(EXAMPLE).encode() + b"\n") * 20_000),
    "csv": ("text/csv", (",".join(EXAMPLE) + "\n" + (",".join(map(str, EXAMPLE.values())) + "\n") * 50_000).encode()),
}


def test_clients_that_leave_in_the_midst_of_a_batch_leave_nothing_behind(outcome: Outcome) -> None:
    """While they send, and while they are answered: threads, descriptors and memory are free again."""
    with serving("--max-streams", "4") as (port, server):
        for kind, body in BODIES.values():
            with send(port, kind, body, 5) as connection:
                connection.recv(100)
        before, peak = descriptors(server), memory(server)
        left = 0
        for turn in range(20):
            for kind, body in BODIES.values():
                with send(port, kind, body, turn % 5 + 1) as connection:
                    if turn % 10 == 4:  # all was sent: it is being answered
                        connection.recv(100)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
                left += 1
        until(lambda: descriptors(server) <= before)
        for kind, body in BODIES.values():
            with send(port, kind, body, 5) as connection:
                assert connection.recv(12) == b"HTTP/1.1 200"
        grown = memory(server) - peak
        assert grown < 100
        outcome(f"{left} clients left; no descriptor more, {grown:.0f} MiB of memory at the peak")


def send(port: int, kind: str, body: bytes, fifths: int) -> socket.socket:
    """A connection on which a batch was announced, and a part of it sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    head = f"POST /predict/batch?on_error=refuse HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) * fifths // 5])
    return connection


def test_a_request_without_an_end_holds_nobody_up(outcome: Outcome) -> None:
    """A hundred halves of requests, cut in heads and bodies: the others are answered as if they were not there."""
    whole = request("/predict", EXAMPLE)
    with serving() as (port, _), contextlib.ExitStack() as halves:
        for cut in range(100):
            half = halves.enter_context(socket.create_connection(("127.0.0.1", port)))
            half.sendall(whole[: len(whole) * (cut + 1) // 101])
        for _ in range(20):
            assert json.loads(get(port, "/health/ready"))["status"] == "ready"
        outcome("100 halves of requests: answered beside them as ever")
