"""Requests byte for byte as common clients send them, in whatever pieces they arrive: one right response to each."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patient.record import EXAMPLE, FIELDS
from tests.e2e.serving import get, serving

RECORD = json.dumps(EXAMPLE).encode()
CSV = f"{','.join(FIELDS)}\n{','.join(str(EXAMPLE[name]) for name in FIELDS)}\n".encode()
LINES = RECORD + b"\n" + RECORD + b"\n"
CHUNKED = "Transfer-Encoding: chunked"


@dataclass(frozen=True)
class Raw:
    """A client: the headers of its requests, and its version of HTTP."""

    name: str
    headers: tuple[str, ...]
    version: str = "1.1"
    is_chunked: bool = False

    def __str__(self) -> str:
        return self.name


CURL = ("User-Agent: curl/8.14.1", "Accept: */*")
JAVA = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
CLIENTS = [
    Raw("curl", CURL),
    Raw(
        "curl --http2",
        (*CURL, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
    ),
    Raw("curl, large", (*CURL, "Expect: 100-continue")),
    Raw("curl -0", CURL, version="1.0"),
    Raw(
        "java",
        (*JAVA, "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA", "User-Agent: Java-http-client/21.0.2"),
    ),
    Raw("java, publisher", ("Upgrade: h2c", "Connection: Upgrade", "User-Agent: Java-http-client/17"), is_chunked=True),
    Raw(".net", ("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", CHUNKED), is_chunked=True),
    Raw(".net framework", ("Expect: 100-continue", "Connection: Keep-Alive")),
    Raw("go", ("User-Agent: Go-http-client/1.1", "Accept-Encoding: gzip")),
    Raw("go, reader", ("User-Agent: Go-http-client/1.1", CHUNKED, "Accept-Encoding: gzip"), is_chunked=True),
    Raw(
        "node",
        ("connection: keep-alive", "accept: */*", "accept-language: *", "user-agent: node"),
    ),
    Raw("wget", ("User-Agent: Wget/1.21.3", "Accept: */*", "Accept-Encoding: identity", "Connection: Keep-Alive")),
    Raw("requests", ("User-Agent: python-requests/2.32.3", "Accept-Encoding: gzip, deflate", "Connection: keep-alive")),
    Raw("urllib", ("Accept-Encoding: identity", "User-Agent: Python-urllib/3.12", "Connection: close")),
    Raw("ab", ("Connection: Keep-Alive", "User-Agent: ApacheBench/2.3", "Accept: */*"), version="1.0"),
]
each = pytest.mark.parametrize("client", CLIENTS, ids=str)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving("--no-access-log") as (port, _):
        yield port


def post(client: Raw, path: str, kind: str, body: bytes) -> bytes:
    """The bytes of a request, with its body."""
    headers = ["Host: 127.0.0.1:8000", *(line for line in client.headers if line != CHUNKED), f"Content-Type: {kind}"]
    if client.is_chunked:
        half = len(body) // 2
        sent = b"".join(b"%X\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:])) + b"0\r\n\r\n"
        headers.append(CHUNKED)
    else:
        sent = body
        headers.append(f"Content-Length: {len(body)}")
    return "\r\n".join([f"POST {path} HTTP/{client.version}", *headers, "\r\n"]).encode() + sent


def responses(connection: socket.socket, methods: list[str]) -> list[tuple[int, dict[str, str], bytes]]:
    """Read the response to each request, and fail if anything follows."""
    file = connection.makefile("rb")
    found = []
    for method in methods:
        while (line := file.readline()).startswith(b"HTTP/1.1 100"):
            assert file.readline() == b"\r\n"
        status = int(line.split()[1])
        headers: dict[str, str] = {}
        while (line := file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = b""
        if method != "HEAD" and "content-length" in headers:
            body = file.read(int(headers["content-length"]))
        elif method != "HEAD":
            assert headers["transfer-encoding"] == "chunked"
            while size := int(file.readline(), 16):
                body += file.read(size)
                file.readline()
            file.readline()
        found.append((status, headers, body))
    connection.settimeout(0.05)
    with contextlib.suppress(TimeoutError):
        assert file.read(1) == b""
    return found


def exchange(port: int, content: bytes, cuts: list[int], methods: list[str]) -> list[tuple[int, dict[str, str], bytes]]:
    """Send bytes in pieces, with a moment between them, and read the responses."""
    edges = [0, *sorted({cut % len(content) for cut in cuts}), len(content)]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in pairwise(edges):
            connection.sendall(content[start:end])
            time.sleep(0.002)
        return responses(connection, methods)


@each
@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(0, 2000), max_size=4))
def test_each_gets_one_right_response(port: int, client: Raw, cuts: list[int]) -> None:
    """For a record, and for tables, streamed or not; with a length where the client knows no chunks."""
    for path, kind, body, rows in (
        ("/predict", "application/json", RECORD, 1),
        ("/predict/batch", "text/csv", CSV, 1),
        ("/predict/batch?on_error=report", "application/x-ndjson", LINES, 2),
    ):
        [(status, headers, answer)] = exchange(port, post(client, path, kind, body), cuts, ["POST"])
        assert status == 200, answer
        assert answer.count(b"0.3360956") == rows
        assert client.version == "1.1" or "transfer-encoding" not in headers


@each
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_get_and_head_agree(port: int, client: Raw, method: str) -> None:
    """HEAD has the headers of GET, and no body."""
    lines = [f"{method} /health/live HTTP/{client.version}", "Host: localhost", *client.headers]
    content = "\r\n".join([line for line in lines if line not in (CHUNKED, "Expect: 100-continue")] + ["\r\n"]).encode()
    [(status, headers, body)] = exchange(port, content, [], [method])
    assert (status, headers["content-length"]) == (200, "17")
    assert body == (b'{"status":"live"}' if method == "GET" else b"")


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 5000), max_size=6))
def test_pipelined_requests_are_answered_in_order(port: int, cuts: list[int]) -> None:
    """Of several clients, as a proxy may mix them on one connection; HEAD among them."""
    clients = [client for client in CLIENTS if client.version == "1.1" and client.name != "urllib"]
    content = b"".join(
        post(client, "/predict", "application/json", json.dumps(EXAMPLE | {"age": 40 + i}).encode())
        + b"HEAD /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for i, client in enumerate(clients)
    )
    found = exchange(port, content, cuts, ["POST", "HEAD"] * len(clients))
    assert [status for status, _, _ in found] == [200] * len(found)
    single = [
        exchange(port, post(CLIENTS[0], "/predict", "application/json", record), [], ["POST"])[0][2]
        for record in (json.dumps(EXAMPLE | {"age": 40 + i}).encode() for i in range(len(clients)))
    ]
    assert [body for _, _, body in found[::2]] == single


def test_http_1_0_gets_no_100(port: int) -> None:
    content = post(CLIENTS[3], "/predict", "application/json", RECORD).replace(
        b"\r\n", b"\r\nExpect: 100-continue\r\n", 1
    )
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(content)
        assert connection.recv(2**16).startswith(b"HTTP/1.1 200")


def test_head_has_no_ranges(port: int) -> None:
    content = b"HEAD /web/main.js HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-9\r\n\r\n"
    [(status, headers, _)] = exchange(port, content, [], ["HEAD"])
    assert status == 200
    assert int(headers["content-length"]) > 1000


@pytest.mark.parametrize("number", [1, 5])
def test_a_client_that_closes_its_half_is_answered(port: int, number: int) -> None:
    """As `nc -N` does, and scripts that shut their side down: all requests that arrived whole."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(post(CLIENTS[0], "/predict", "application/json", RECORD) * number)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while data := connection.recv(2**16):
            received += data
    assert received.count(b"0.3360956") == number
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(post(CLIENTS[0], "/predict", "application/json", RECORD)[:-5])
        connection.shutdown(socket.SHUT_WR)
        assert b"200 OK" not in connection.recv(2**16)


def test_a_table_that_is_cut_off_is_an_error_to_http_1_0() -> None:
    """Which could not tell it from a whole one. The error is that of the table, or of its response's length."""
    old = next(client for client in CLIENTS if client.version == "1.0")
    many = (RECORD + b"\n") * 20_000  # whose response has begun before the table ends, and is above 1 MiB
    with serving("--no-access-log", "--max-spool", "3000000") as (port, _):
        for body, expected, cause in (
            (many + b'{"' + b"x" * 2_000_000, 413, "A line is longer"),
            (many * 3, 505, "HTTP/1.1"),
        ):
            content = post(old, "/predict/batch?on_error=report", "application/x-ndjson", body)
            [(status, headers, answer)] = exchange(port, content, [], ["POST"])
            assert status == expected, answer
            assert headers["content-type"] == "application/problem+json"
            assert cause in json.loads(answer)["detail"]
            assert b"0.336" not in answer
        assert 'route="/predict/batch",status="505"} 1.0' in get(port, "/metrics")
