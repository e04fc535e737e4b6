"""Requests that are sent without waiting for responses take no more memory than those that are parsed."""

import json
import socket
import threading
from typing import Any

import pytest

from patient.record import EXAMPLE
from tests.conftest import Outcome
from tests.e2e.serving import request
from tests.faults.machine import memory
from tests.hostile.machine import serving_in_group

MIB = 2**20
ALIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
GROWN = 32  # MiB


@pytest.fixture(scope="module")
def served() -> Any:
    with serving_in_group("--no-access-log") as (port, process):
        yield port, process


def send(connection: socket.socket, content: bytes) -> threading.Thread:
    """Send in a thread: the service stops reading when nobody reads its responses."""
    thread = threading.Thread(target=connection.sendall, args=(content,))
    thread.start()
    return thread


def test_every_one_is_answered_in_order_within_little_memory(served: tuple[int, int], outcome: Outcome) -> None:
    """As fast as they can be sent; Uvicorn would hold all of them, at 2 kB each."""
    port, process = served
    number = 40_000
    base = memory(process, "VmRSS")
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        sending = send(connection, ALIVE * number + request("/predict", EXAMPLE))
        found, rest = 0, b""
        while not rest.endswith(b'"model_version":"3"}'):
            rest = rest[-100:] + connection.recv(MIB)
            found += rest.count(b"HTTP/1.1 200 OK\r\n") - rest[:100].count(b"HTTP/1.1 200 OK\r\n")
        sending.join()
    outcome(f"{memory(process) - base:+.0f} MiB at the peak")
    assert found >= number
    assert memory(process) - base < GROWN


def test_who_reads_no_response_is_read_no_further(served: tuple[int, int], outcome: Outcome) -> None:
    """Until it is disconnected, its requests stay in the sockets' buffers."""
    port, process = served
    base = memory(process, "VmRSS")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(3)
        with pytest.raises(TimeoutError):
            connection.sendall(ALIVE * (40 * MIB // len(ALIVE)))
        outcome(f"{memory(process) - base:+.0f} MiB at the peak")
        assert memory(process) - base < GROWN


def test_blank_lines_in_a_body_are_no_requests(served: tuple[int, int]) -> None:
    """However many; the request behind the body is answered too."""
    port, _ = served
    body = b"\r\n\r\n" * 5000 + json.dumps(EXAMPLE).encode() + b"\r\n\r\n" * 5000
    head = b"POST /predict/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
    head += b"Content-Length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(head % len(body) + body + request("/predict", EXAMPLE))
        received = b""
        while not received.endswith(b'"model_version":"3"}'):
            received += connection.recv(MIB)
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert b'"scored": 1' in received
