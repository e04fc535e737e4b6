"""Clients that are slow, silent or endless are disconnected in time, and no other client waits for them."""

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from patient.record import EXAMPLE
from tests.e2e.serving import Connection, get, request, serving

CLIENTS = 1000
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
TABLE = b"POST /predict/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
LINE = json.dumps(EXAMPLE).encode() + b"\n"


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[int, int]]:
    """Port and process id of a service with short time limits, so that the tests are short too."""
    with serving("--max-arrival", "2", "--max-requests", "50", "--max-stall", "4") as found:
        yield found


def memory(process: int) -> float:
    """Resident MiB."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096 / 2**20


def open_files(process: int) -> int:
    """The number of open files, connections included."""
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def ended(connection: socket.socket) -> bytes:
    """All data until the server closes the connection. Raises TimeoutError if it does not."""
    connection.settimeout(20)
    got = b""
    try:
        while data := connection.recv(2**16):
            got += data
    except ConnectionError:
        pass
    return got


def refused(answer: bytes, status: int) -> None:
    """Assert that a response is a problem+json with this status and the usual headers."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    assert b"x-content-type-options: nosniff" in head
    assert b"server:" not in head
    assert json.loads(body)["status"] == status


SLOW = [
    (b"POST /predict", b"x"),
    (HEAD + b"X-Slow: ", b"x"),
    (HEAD, b"X-Slow: yes\r\n"),
    (HEAD + b"Content-Length: 400\r\n\r\n{", b" "),
    (HEAD + CHUNKED, b"1\r\n \r\n"),
]


def test_a_thousand_slow_clients_are_disconnected_and_others_do_not_wait(server: tuple[int, int]) -> None:
    """Slowloris: each sends a byte now and then; of each kind there are more than max_requests."""
    port, _ = server

    async def slow(begun: bytes, goes_on: bytes) -> bytes:
        connection = await Connection.to(port)
        connection.writer.write(begun)
        reading = asyncio.ensure_future(connection.reader.read())
        try:
            while not reading.done():
                connection.writer.write(goes_on)
                await asyncio.wait([reading], timeout=0.5)
            return reading.result()
        except ConnectionError:
            return b""
        finally:
            connection.close()

    async def work() -> int:
        slow_ones = asyncio.gather(*(slow(*SLOW[number % len(SLOW)]) for number in range(CLIENTS)))
        answered = 0
        while not slow_ones.done():
            connection = await Connection.to(port)
            status, _, _ = await connection.post("/predict", EXAMPLE)
            assert status == 200
            answered += 1
            connection.close()
            await asyncio.sleep(0.05)
        told = [answer for answer in await slow_ones if answer]
        for answer in told:
            refused(answer, 408)
        assert len(told) > CLIENTS / 2  # some lose the response because they were still sending
        return answered

    assert asyncio.run(work()) > 5


def test_an_idle_connection_is_closed_without_a_response(server: tuple[int, int]) -> None:
    """A new one as well as one whose last request has had its response."""
    for before in (b"", b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server[0])) as silent:
            silent.sendall(before)
            assert ended(silent).count(b"HTTP/1.1") == bool(before)


def test_empty_lines_do_not_keep_a_connection_open(server: tuple[int, int]) -> None:
    """The parser skips them before a request, and Uvicorn would wait forever."""
    with socket.create_connection(("127.0.0.1", server[0])) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        connection.sendall(b"\r\n")
        assert ended(connection).count(b"HTTP/1.1") <= 1


@pytest.mark.parametrize(
    ("begun", "goes_on", "status"),
    [
        (b"GET /", b"a", 414),
        (b"GET / HTTP/1.1\r\nX: ", b"a", 431),
        (b"GET / HTTP/1.1\r\n", b"X: y\r\n", 431),
        (b"\r\n", b"\r\n", 431),
        (HEAD + CHUNKED + b"1\r\n{\r\n0\r\nX: ", b"a", 431),
        (HEAD + CHUNKED + b"1;", b"a", 431),
    ],
    ids=["URL", "header", "headers", "empty lines", "trailer", "chunk extension"],
)
def test_an_endless_head_is_rejected_and_takes_no_memory(
    server: tuple[int, int], begun: bytes, goes_on: bytes, status: int
) -> None:
    """30 MB, in each place where HTTP allows them."""
    port, process = server
    before = memory(process)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(20)
        connection.sendall(begun)
        time.sleep(0.1)  # a packet of its own
        connection.sendall(goes_on * (33_000 // len(goes_on)))  # a little more than a head may be
        refused(ended(connection), status)
    with socket.create_connection(("127.0.0.1", port)) as connection, pytest.raises(ConnectionError):
        connection.sendall(begun + goes_on * (30_000_000 // len(goes_on)))
    assert memory(process) - before < 15


def check_head(port: int, size: int, status: int) -> None:
    """A head of some size gets the status, in one packet and in many."""
    head = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: %b\r\n\r\n" % (b"a" * size)
    for step in (len(head), 1000):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for start in range(0, len(head), step):
                connection.sendall(head[start : start + step])
            assert ended(connection).startswith(b"HTTP/1.1 %d " % status)


def test_a_head_below_the_limit_is_accepted_and_one_above_it_is_not(server: tuple[int, int]) -> None:
    check_head(server[0], 31_000, 200)
    check_head(server[0], 33_000, 431)


def test_a_small_limit_of_heads_holds_too() -> None:
    with serving("--max-head", "2048") as (port, _):
        check_head(port, 1_500, 200)
        check_head(port, 2_500, 431)


def test_a_client_that_never_reads_is_disconnected(server: tuple[int, int]) -> None:
    """Its responses stay in memory while it is connected, and closing would wait for it to read them."""
    port, process = server
    get(port, "/health/live")
    time.sleep(0.5)  # until its connection is closed
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        before = open_files(process)
        connection.connect(("127.0.0.1", port))
        with contextlib.suppress(TimeoutError, ConnectionError):
            for _ in range(10):  # more than the kernel buffers
                connection.sendall(request("/predict/batch", [EXAMPLE] * 10_000))
                assert open_files(process) > before
        for _ in range(200):
            if open_files(process) <= before:
                return
            time.sleep(0.1)
    raise AssertionError("its connection is still open")


def test_a_table_may_take_its_time(server: tuple[int, int]) -> None:
    """Tables have limits of their own: this one arrives for twice as long as JSON may."""
    with socket.create_connection(("127.0.0.1", server[0])) as connection:
        connection.settimeout(20)
        connection.sendall(TABLE + CHUNKED)
        got = b""
        for _ in range(8):
            connection.sendall(b"%x\r\n%b\r\n" % (len(LINE), LINE))
            try:
                connection.settimeout(0.5)
                while True:
                    got += connection.recv(2**16)
                    assert got
            except TimeoutError:
                pass
        connection.settimeout(20)
        connection.sendall(b"0\r\n\r\n")
        while not got.endswith(b"0\r\n\r\n"):
            got += connection.recv(2**16)
    assert got.startswith(b"HTTP/1.1 200 ")
    assert got.count(b'"probability":') == 8
    assert b'"bad": 0' in got


def test_trailers_are_not_headers(server: tuple[int, int]) -> None:
    """Fields after a body cannot change the meaning of its head."""
    with socket.create_connection(("127.0.0.1", server[0])) as connection:
        body = json.dumps(EXAMPLE).encode()
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        trailer = b"0\r\nContent-Type: application/json\r\n\r\n"
        connection.sendall(head + b"%x\r\n%b\r\n" % (len(body), body) + trailer)
        assert ended(connection).startswith(b"HTTP/1.1 415 ")


def test_invalid_http_is_400_and_a_request_before_it_gets_its_response(server: tuple[int, int]) -> None:
    """A complete request gets its own response, not the error of what follows it, which comes after it if at all."""
    with socket.create_connection(("127.0.0.1", server[0])) as connection:
        connection.sendall(b"\x16\x03\x01 a TLS greeting, say\r\n\r\n")
        refused(ended(connection), 400)
    with socket.create_connection(("127.0.0.1", server[0])) as connection:
        connection.sendall(request("/predict", EXAMPLE) + b"\0 garbage\r\n\r\n")
        answer = ended(connection)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer
        rest = answer[10:].partition(b"HTTP/1.1 ")[2]
        assert not rest or rest.startswith(b"400 ")


def test_a_connection_beyond_the_limit_gets_503_where_none_is_idle() -> None:
    """The others are still served, and there is room again when one closes."""
    with serving("--max-connections", "3") as (port, _):
        there = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        content = request("/predict", EXAMPLE)
        for connection in there:
            connection.sendall(content + content[:-9])  # the second request has begun
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        with socket.create_connection(("127.0.0.1", port)) as one_more:
            answer = ended(one_more)
        refused(answer, 503)
        assert b"retry-after: 1" in answer
        for connection in there:
            connection.sendall(content[-9:])
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            connection.close()
        assert '"live"' in get(port, "/health/live")


def test_idle_connections_make_way_for_new_ones() -> None:
    """The one that was active longest ago first; those with a request in progress stay."""
    with serving("--max-connections", "6") as (port, _), contextlib.ExitStack() as stack:

        def connect() -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))

        content = request("/predict", EXAMPLE)
        busy, table, silent, partial, used, latest = (connect() for _ in range(6))
        used.sendall(content)
        assert used.recv(4096).startswith(b"HTTP/1.1 200")
        busy.sendall(content[:-9])
        table.sendall(TABLE + CHUNKED + b"%x\r\n%b\r\n" % (len(LINE), LINE))
        partial.sendall(HEAD)
        time.sleep(0.2)
        for ends, has_response in ((silent, False), (partial, True), (used, False), (latest, False)):
            new = connect()
            new.sendall(content[:-9])
            answer = ended(ends)
            assert answer.startswith(b"HTTP/1.1 503 ") if has_response else answer == b""
        with socket.create_connection(("127.0.0.1", port)) as one_more:
            refused(ended(one_more), 503)
        busy.sendall(content[-9:])
        assert busy.recv(4096).startswith(b"HTTP/1.1 200")
        assert '"live"' in get(port, "/health/live")
        table.sendall(b"0\r\n\r\n")
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += table.recv(4096)
        assert received.count(b'"probability":') == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_client_that_vanished_is_noticed(server: tuple[int, int]) -> None:
    """A half-open connection is silent, so the kernel sends keep-alive probes."""
    with socket.create_connection(("127.0.0.1", server[0])) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4096)
        theirs, ours = (f":{where[1]:04X}" for where in (connection.getpeername(), connection.getsockname()))
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        (found,) = [line for line in lines if line[1].endswith(theirs) and line[2].endswith(ours)]
        assert found[5].startswith("02:")  # the timer that runs is keep-alive's
