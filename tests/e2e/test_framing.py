"""Responses to HEAD and to HTTP/1.0, over sockets: the right length, and an error instead of a part of a response."""

import gzip
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from patient.record import EXAMPLE, FIELDS
from tests.e2e.serving import get, serving

ROWS = 200_000
LINE = f"{','.join(str(EXAMPLE[name]) for name in FIELDS)}\n".encode()
CSV = f"{','.join(FIELDS)}\n".encode() + ROWS * LINE
NDJSON = "Accept: application/x-ndjson"  # 74 bytes a row
COMPRESSED = gzip.compress(CSV)
REPORT = "/predict/batch?on_error=report"
OLD = ("0.9", "1.0")
FLAGS = ("--max-spool", str(2**24), "--max-arrival", "1", "--max-stall", "4")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log"


@pytest.fixture(scope="module")
def port(log: Path) -> Iterator[int]:
    """A service that holds 16 MiB of responses, and does not wait long for those who read nothing."""
    with log.open("wb") as file, serving(*FLAGS, log=file) as (port, _):
        yield port


def table(version: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {REPORT} HTTP/{version}", "Host: localhost", "Content-Type: text/csv"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", *headers, "\r\n"]).encode() + body


def whole(port: int, content: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the response, which must end the connection and have its length."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(content)
        received = b"".join(iter(lambda: connection.recv(2**16), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert "transfer-encoding" not in headers
    assert headers.get("content-length", "0") == str(len(body))
    return int(status.split()[1]), headers, body


@pytest.mark.parametrize("version", OLD)
def test_a_table_has_its_length(port: int, version: str) -> None:
    status, headers, body = whole(port, table(version, CSV))
    assert (status, headers["content-type"]) == (200, "text/csv")
    assert body.count(b"0.336") == ROWS


@pytest.mark.parametrize("version", OLD)
def test_a_table_that_is_cut_off_gets_its_own_error(port: int, version: str) -> None:
    """The rows before the fault have been scored by then; over HTTP/1.1 they are sent and the connection breaks."""
    cut = COMPRESSED[:-9]
    status, headers, body = whole(port, table(version, cut, "Content-Encoding: gzip"))
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert json.loads(body)["status"] == 400


def test_what_is_too_long_to_be_held_is_refused_and_the_rest_is_not(port: int) -> None:
    for _ in range(3):  # the room of one that was refused is free again
        status, headers, body = whole(port, table("1.0", CSV + ROWS * LINE, NDJSON))
        assert (status, headers["content-type"]) == (505, "application/problem+json")
        assert "use HTTP/1.1" in json.loads(body)["detail"]
        assert whole(port, table("1.0", CSV, NDJSON))[0] == 200


def test_a_client_that_leaves_is_no_error_of_the_service(port: int, log: Path) -> None:
    """Its response had begun to be held."""
    content = table("1.0", CSV)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(content[:-10])
        time.sleep(0.5)
    for _ in range(100):
        if '"status":499' in log.read_text():
            break
        time.sleep(0.1)
    counted = [line for line in get(port, "/metrics").splitlines() if 'route="/predict/batch",status="' in line]
    assert any('"499"' in line and not line.endswith(" 0.0") for line in counted)
    assert all(line.endswith(" 0.0") for line in counted if '"500"' in line)


def test_a_client_that_reads_nothing_is_disconnected(port: int, log: Path) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.sendall(table("1.0", CSV, NDJSON))
        for _ in range(300):
            if "the client does not read" in log.read_text():
                break
            time.sleep(0.1)
        else:
            raise AssertionError("the service still waits")
    assert whole(port, table("1.0", CSV, NDJSON))[0] == 200  # its room is free again


def test_a_table_may_pause_as_long_as_over_http_1_1(port: int) -> None:
    """Longer than a record may take to arrive: tables have a limit of their own."""
    content = table("1.0", CSV)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(content[:-10])
        time.sleep(2.5)
        connection.sendall(content[-10:])
        assert connection.recv(15) == b"HTTP/1.1 200 OK"


def test_http_1_0_knows_no_100_continue(port: int) -> None:
    body = json.dumps(EXAMPLE).encode()
    head = f"POST /predict HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    assert whole(port, head.encode() + b"Expect: 100-continue\r\n\r\n" + body)[0] == 200


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_response_without_a_body_has_no_length(port: int, version: str) -> None:
    """RFC 9110, section 8.6: 304 may only have the length that 200 would have."""
    request = f"GET /web/main.js HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\nIf-None-Match: *\r\n\r\n"
    status, headers, _ = whole(port, request.encode())
    assert status == 304
    assert "content-length" not in headers


def ask(port: int, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    found = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    connection.close()
    return found


def test_head_has_the_headers_of_get_on_every_path(port: int) -> None:
    """Also of its errors. A range is GET's alone: RFC 9110, section 14.2."""
    paths = json.loads(ask(port, "GET", "/openapi.json")[2])["paths"]
    assert all("head" not in operations for operations in paths.values())
    with_get = [path for path, operations in paths.items() if "get" in operations]
    assert {"/health/live", "/model/card", "/v2", "/metrics"} <= set(with_get)
    others = ["/", "/docs", "/openapi.json", "/web/main.js", "/web/none.js", "/none", "/predict"]
    for path in [*with_get, *others]:
        (status, headers, _), head = ask(port, "GET", path), ask(port, "HEAD", path)
        for found in (headers, head[1]):
            del found["date"], found["x-request-id"]
            if path == "/metrics":  # its numbers grow
                assert int(found.pop("content-length")) > 1000
        assert head == (status, headers, b""), path
        assert status == {"/web/none.js": 404, "/none": 404, "/predict": 405}.get(path, 200)
    assert ask(port, "GET", "/web/main.js", Range="bytes=0-1")[0] == 206
    assert ask(port, "HEAD", "/web/main.js", Range="bytes=0-1")[0] == 200


@pytest.mark.parametrize(("path", "allowed"), [("/health/live", "GET, HEAD"), ("/predict", "POST")])
def test_405_lists_head_where_get_is(port: int, path: str, allowed: str) -> None:
    status, headers, body = ask(port, "DELETE", path)
    assert (status, headers["allow"]) == (405, allowed)
    assert json.loads(body)["detail"] == f"This path does not allow DELETE; it allows {allowed}."


def test_head_is_logged_as_such_with_the_bytes_that_were_sent(port: int, log: Path) -> None:
    assert ask(port, "HEAD", "/health/live", **{"X-Request-ID": "logged"})[1]["content-length"] == "17"
    for _ in range(100):
        if lines := [line for line in log.read_text().splitlines() if '"request_id":"logged"' in line]:
            break
        time.sleep(0.1)
    entry = json.loads(lines[0])
    assert [entry[name] for name in ("method", "route", "status", "bytes_out")] == ["HEAD", "/health/live", 200, 0]
