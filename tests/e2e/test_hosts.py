"""The Host header over real connections, on the fast path and on others."""

import json
import socket

import pytest

from patient.record import EXAMPLE
from tests.e2e.serving import serving

BODY = json.dumps(EXAMPLE).encode()
EVIL = b"rebound.example:8000"


def ask(port: int, path: bytes, *hosts: bytes, version: bytes = b"1.1") -> tuple[bytes, bytes]:
    """Head and body of the response to a POST, or to a GET of a probe, with these Host headers."""
    method, body = (b"GET", b"") if path.startswith(b"/health") else (b"POST", BODY)
    lines = [b"%b %b HTTP/%b" % (method, path, version), *(b"Host: %b" % host for host in hosts), b"Connection: close"]
    lines += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        head, _, content = b"".join(iter(lambda: connection.recv(2**16), b"")).partition(b"\r\n\r\n")
        return head, content


def status(answer: tuple[bytes, bytes]) -> int:
    return int(answer[0].split()[1])


@pytest.mark.parametrize("path", [b"/predict", b"/predict?a=1", b"/explain", b"/health/live", b"/nowhere"])
def test_a_rebound_name_reaches_nothing(port: int, path: bytes) -> None:
    head, body = ask(port, path, EVIL)
    assert head.startswith(b"HTTP/1.1 421 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["status"] == 421
    assert b"rebound" not in head + body
    assert status(ask(port, path, b"localhost:8000")) in (200, 404)


@pytest.mark.parametrize("path", [b"/predict", b"/health/live"])
def test_one_host_is_required(port: int, path: bytes) -> None:
    """RFC 9112, section 3.2. HTTP/1.0 has none."""
    for hosts in ([], [b"localhost", b"localhost"], [EVIL, b"localhost"], [b"a b"]):
        head, body = ask(port, path, *hosts)
        assert head.startswith(b"HTTP/1.1 400 ")
        assert "Host" in json.loads(body)["detail"]
    assert status(ask(port, path, version=b"1.0")) == 200
    assert status(ask(port, path, EVIL, version=b"1.0")) == 421


def test_a_later_request_of_a_connection_is_checked(port: int) -> None:
    def post(host: bytes) -> bytes:
        head = b"POST /predict HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        return head % (host, len(BODY)) + BODY

    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for host, expected in ((b"localhost", b"HTTP/1.1 200 "), (EVIL, b"HTTP/1.1 421 ")):
            connection.sendall(post(host))
            assert connection.recv(2**16).startswith(expected)


def test_allowed_hosts_and_other_addresses() -> None:
    """Several processes have the same rule."""
    with serving("--allowed-hosts", "*.example", "--workers", "2", "--log-level", "error") as (port, _):
        for _ in range(8):
            assert status(ask(port, b"/predict", EVIL)) == 200
            assert status(ask(port, b"/predict", b"rebound.invalid")) == 421
    with serving("--host", "0.0.0.0", "--open-to-network", "--log-level", "error") as (port, _):
        assert status(ask(port, b"/predict", EVIL)) == 200
        assert status(ask(port, b"/predict")) == 400
