"""Processes that are killed, or told to stop, while they serve."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from patient.record import EXAMPLE
from tests.conftest import ROOT, Outcome
from tests.e2e.serving import free_port, request, serving, wait_until_ready
from tests.e2e.test_workers import metric, until_both_serve, workers
from tests.faults.load import Load
from tests.faults.machine import until


@contextlib.contextmanager
def stopping(*flags: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A service that the test itself ends."""
    port = free_port()
    command = [sys.executable, "-m", "service", "--provider", "cpu", "--port", str(port), *flags]
    server = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        wait_until_ready(port, server)
        yield port, server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def ready(port: int) -> int:
    """The status of /health/ready; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready") as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_a_killed_worker_costs_what_it_was_answering_and_is_replaced(outcome: Outcome, probability: float) -> None:
    """kill -9 under load: at most a request a connection is cut off, the rest is served, the counts stay whole."""
    with serving("--workers", "2") as (port, supervisor):
        until_both_serve(port)
        before = workers(supervisor)
        with Load(port, probability) as load:
            time.sleep(0.3)
            os.kill(before[0], signal.SIGKILL)
            begun = time.monotonic()
            until(lambda: len(now := workers(supervisor)) == 2 and before[0] not in now)
            until_both_serve(port)
            seconds = time.monotonic() - begun
            time.sleep(0.2)
        assert load.statuses.keys() == {200}
        assert (load.wrong, load.refused) == (0, 0)
        assert load.cut <= load.clients
        assert load.answered <= metric(port, 'heart_rows_total{way="single"}') <= load.answered + load.cut
        outcome(
            f"{load.answered} answered, {load.cut} cut off; nobody answered for {load.gap * 1e3:.0f} ms at most; "
            f"two workers again after {seconds:.1f} s"
        )


@pytest.mark.parametrize("flags", [(), ("--workers", "2")], ids=["one process", "two workers"])
def test_sigterm_under_load_loses_nothing_of_those_who_heed_readiness(
    flags: tuple[str, ...], outcome: Outcome, probability: float
) -> None:
    """Ready turns 503, requests are answered until their sender has turned away, and the exit status is 0."""
    with stopping("--drain", "1.5", *flags) as (port, server):
        if flags:
            until_both_serve(port)
        with Load(port, probability) as load:
            time.sleep(0.3)
            begun = time.monotonic()
            server.terminate()
            noticed = until(lambda: ready(port) == 503)
            time.sleep(0.4)  # a proxy's next look
            load.stop()
        assert server.wait(30) == 0
        seconds = time.monotonic() - begun
        assert load.statuses.keys() == {200}
        assert (load.wrong, load.refused, load.cut) == (0, 0, 0)
        outcome(f"503 after {noticed:.2f} s; {load.answered} answered, none cut off; exit 0 after {seconds:.1f} s")


def table(port: int, rows: int) -> socket.socket:
    """A connection on which an NDJSON table was announced, and so many rows sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    head = "POST /predict/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
    connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    more(connection, rows)
    return connection


def more(connection: socket.socket, rows: int) -> None:
    """Send rows as a chunk; none ends the body."""
    data = (json.dumps(EXAMPLE).encode() + b"\n") * rows
    connection.sendall(b"%x\r\n%s\r\n" % (len(data), data))


def test_a_table_that_was_under_way_is_answered_whole_and_one_that_stalls_is_cut_off(outcome: Outcome) -> None:
    """What was begun is finished within the grace; what its client does not finish cannot keep the process."""
    with stopping("--drain", "0.2", "--grace", "2") as (port, server):
        busy, stalled = table(port, 1000), table(port, 10)
        half = socket.create_connection(("127.0.0.1", port))
        half.sendall(request("/predict", EXAMPLE)[:-20])  # a body that never ends
        time.sleep(0.3)
        begun = time.monotonic()
        server.terminate()
        until(lambda: ready(port) == 0)
        more(busy, 1000)
        more(busy, 0)
        response = http.client.HTTPResponse(busy)
        response.begin()
        lines = response.read().splitlines()
        assert len(lines) == 2001
        assert json.loads(lines[-1])["summary"]["scored"] == 2000
        assert server.wait(30) == 0
        outcome(f"the table of 2,000 rows whole; exit 0 after {time.monotonic() - begun:.1f} s of drain 0.2, grace 2")
        cut = http.client.HTTPResponse(stalled)
        cut.begin()
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            cut.read()
        for connection in (busy, stalled, half):
            connection.close()


def test_a_second_sigterm_or_ctrl_c_does_not_wait(outcome: Outcome) -> None:
    """Whoever is in a hurry need not kill."""
    for signals in ([signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]):
        with stopping("--drain", "60") as (port, server):
            begun = time.monotonic()
            for number in signals:
                server.send_signal(number)
                until(lambda: ready(port) != 200)
            assert server.wait(10) == 0
            outcome(f"{len(signals)} x {signals[0].name}: exit 0 after {time.monotonic() - begun:.1f} s")
