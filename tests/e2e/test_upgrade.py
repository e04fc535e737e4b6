"""Requests with an Upgrade header, as Java's HTTP client and curl --http2 send them: answered as if it were absent."""

import json
import socket
from collections.abc import Iterator
from http.client import parse_headers

import pytest

from patient.record import EXAMPLE
from tests.e2e.serving import serving

BODY = json.dumps(EXAMPLE).encode()
UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
    "TLS": b"Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
}
FRAMED = {
    "length": (b"Content-Length: %d\r\n" % len(BODY), BODY),
    "chunked": (b"Transfer-Encoding: chunked\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)),
}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving() as (number, _):
        yield number


def post(upgrade: str, framing: str, path: str = "/predict") -> bytes:
    """A request as it goes over the wire."""
    header, body = FRAMED[framing]
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % path.encode()
    return head + UPGRADES[upgrade] + header + b"\r\n" + body


def responses(port: int, *pieces: bytes, count: int) -> list[tuple[int, bytes]]:
    """Status and body of each response on one connection; fails unless there are `count` and nothing after them."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    with connection, connection.makefile("rb") as reader:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        found = []
        for _ in range(count):
            status = int(reader.readline().split()[1])
            found.append((status, reader.read(int(parse_headers(reader)["Content-Length"]))))
        connection.settimeout(0.05)
        with pytest.raises(TimeoutError):  # the connection stays open, and silent
            reader.read(1)
    return found


@pytest.mark.parametrize("framing", FRAMED)
@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("path", ["/predict", "/explain", "/v2/models/heart_disease/infer", "/predict/batch"])
def test_a_request_with_an_upgrade_is_answered_like_one_without(
    port: int, upgrade: str, framing: str, path: str
) -> None:
    """Every route, whatever protocol is offered; a body that is invalid for the route gets its usual error."""
    plain = post(upgrade, framing, path).replace(UPGRADES[upgrade], b"")
    assert responses(port, post(upgrade, framing, path), count=1) == responses(port, plain, count=1)


@pytest.mark.parametrize("framing", FRAMED)
def test_a_body_that_comes_later_is_not_a_request_of_its_own(port: int, framing: str) -> None:
    """Split at every byte: one request, one response, and the next request on the connection gets its own."""
    message = post("h2c", framing)
    for at in range(1, len(message), 7):
        (status, body), second = responses(port, message[:at], message[at:] + post("websocket", framing), count=2)
        assert status == 200
        assert "probability" in json.loads(body)
        assert second == (status, body)


def test_a_request_without_a_body_gets_one_response(port: int) -> None:
    """Also when hundreds are pipelined behind it."""
    get = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n" + UPGRADES["websocket"] + b"\r\n"
    assert responses(port, get * 500 + post("h2c", "length"), count=501)[:500] == [(200, b'{"status":"live"}')] * 500


def test_a_body_that_looks_like_a_request_is_a_body(port: int) -> None:
    """Smuggling: its bytes are the record's, however they read."""
    smuggled = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + UPGRADES["h2c"]
    ((status, _),) = responses(port, head + b"Content-Length: %d\r\n\r\n" % len(smuggled), smuggled, count=1)
    assert status == 400
