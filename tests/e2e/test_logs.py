"""The log of a real service: JSON, one line per request, and nothing that a client sent."""

import contextlib
import gzip
import http.client
import io
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from patient.record import EXAMPLE
from tests.e2e.serving import get, request, serving

# Sent, and must not be logged: values with more digits than any other number in a log, and a word.
PATIENT = EXAMPLE | {
    "age": 41.41421,
    "trestbps": 131.41592,
    "chol": 271.82818,
    "thalach": 161.80339,
    "oldpeak": 1.73205,
}
BAD = PATIENT | {"chol": 98765.4321, "thal": 577215.6649}
WORD = "Zaphod"
SECRETS = (
    "41.4142",
    "131.4159",
    "271.8281",
    "161.8033",
    "1.7320",
    "98765.4",
    "577215.6",
    WORD,
    WORD.lower(),
    WORD.encode().hex(),
)


class Client:
    """Sends requests and keeps the statuses and ids of the responses."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.statuses: list[int] = []
        self.ids: list[str] = []

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> http.client.HTTPResponse:
        """Send a request over a connection of its own, and read the response."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            with contextlib.suppress(http.client.IncompleteRead):  # a damaged table, found when its answer had begun
                answer.read()
        self.statuses.append(answer.status)
        self.ids.append(answer.headers["X-Request-ID"])
        return answer

    def post(self, path: str, content: object, kind: str = "application/json", **headers: str) -> None:
        """Send bytes unchanged, and anything else as JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send("POST", path, body, Content_Type=kind, **headers)

    def raw(self, data: bytes) -> None:
        """Send bytes that may not be HTTP; the server may respond or close."""
        with socket.create_connection(("127.0.0.1", self.port), 30) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass


def tables() -> Iterator[tuple[str, bytes]]:
    """Good and bad patients with a name each, in every format."""
    table = pa.Table.from_pylist([row | {"name": f"{WORD} {n}"} for n, row in enumerate((PATIENT, BAD, PATIENT))])
    csv, parquet, arrow = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pyarrow.csv.write_csv(table, csv)
    pyarrow.parquet.write_table(table, parquet)
    with pa.ipc.new_stream(arrow, table.schema) as stream:
        stream.write_table(table)
    yield "text/csv", csv.getvalue()
    yield "application/vnd.apache.parquet", parquet.getvalue()
    yield "application/vnd.apache.arrow.stream", arrow.getvalue()
    yield "application/x-ndjson", b"\n".join(json.dumps(row).encode() for row in table.to_pylist())
    yield "application/json", json.dumps(table.to_pylist()).encode()


def records(client: Client) -> None:
    """Single ones and arrays, right and wrong in every way."""
    for content in (
        PATIENT,
        BAD,
        PATIENT | {"age": f"{WORD}"},
        PATIENT | {WORD: 41.41421},
        {WORD: WORD},
        [WORD],
        WORD,
        41.41421,
        json.dumps(PATIENT).encode()[:-9],
        b'{"age": 41.41421, "age": 41.41421,' + json.dumps(PATIENT).encode()[1:],
        WORD.encode() * 1000,
        f'{{"age": {WORD}'.encode(),
        b"\xff" + WORD.encode(),
        b"[" * 100_000,
    ):
        client.post("/predict", content)
        client.post("/predict/batch", content)
        client.post("/predict/batch", [PATIENT, content] if isinstance(content, dict) else content)
    client.post("/predict", PATIENT, f"application/{WORD}")
    client.post("/predict", b"x" * 5 * 2**20 + WORD.encode())


def batches(client: Client) -> None:
    """Tables, whole, packed, as a form, damaged, and asked for in odd ways."""
    for kind, content in tables():
        for query in ("", "?on_error=report", "?on_error=report&keep=*", f"?on_error=report&keep={WORD}", f"?{WORD}=1"):
            client.post(f"/predict/batch{query}", content, kind)
            client.post(f"/predict/batch{query}", content[: len(content) * 2 // 3], kind)
        client.post("/predict/batch?on_error=report", gzip.compress(content), kind, Content_Encoding="gzip")
        client.post("/predict/batch", gzip.compress(content)[:-20], kind, Content_Encoding="gzip")
        client.post("/predict/batch", content, kind, Content_Encoding=WORD)
        client.post("/predict/batch", content, kind, Accept=f"text/{WORD}")
        part = f'--x\r\nContent-Disposition: form-data; name="{WORD}"; filename="{WORD}.csv"\r\n'
        for head in (f"{part}Content-Type: {kind}\r\n\r\n", f"{part}{WORD}\r\n\r\n", f"--{WORD}"):
            client.post("/predict/batch", head.encode() + content + b"\r\n--x--\r\n", "multipart/form-data; boundary=x")


def oddities(client: Client) -> None:
    """Paths, queries, headers, methods and bytes that nobody should send."""
    for path in (
        f"/{WORD}",
        f"/predict/{WORD}?age=41.41421",
        f"/health/live?{WORD}",
        f"/model?x={WORD}",
        f"/%5A{WORD}",
    ):
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            client.send(method, path, Referer=WORD, Cookie=WORD, User_Agent=WORD, Authorization=WORD)
    client.send("GET", "/health/live", X_Request_ID=f"{WORD} 41.41421")
    client.send("GET", "/health/live", X_Request_ID=WORD * 50)
    client.raw(f"{WORD} /predict HTTP/1.1\r\n\r\n".encode())
    client.raw(f"GET /{WORD} HTTP/1.1\r\nHost: localhost\r\n{WORD}".encode())
    client.raw(f"GET /{WORD} HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: {WORD}\r\n\r\n".encode())
    client.raw(request("/predict", PATIENT)[:-20])
    client.raw(request("/predict/batch", [PATIENT] * 9)[:-20])
    head = f"POST /predict/batch HTTP/1.1\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{WORD}"
    client.raw(head.encode())


@pytest.mark.parametrize("flags", [[], ["--log-format", "text"], ["--workers", "2"]], ids=["json", "text", "workers"])
def test_nothing_that_was_sent_is_in_the_log(tmp_path: Path, flags: list[str]) -> None:
    """On all routes and for all errors, at the level that logs most; every line is well-formed."""
    file = tmp_path / "log"
    with file.open("wb") as log, serving("--log-level", "debug", *flags, log=log) as (port, _):
        client = Client(port)
        records(client)
        batches(client)
        oddities(client)
        get(port, "/metrics")
    said = file.read_text()
    for secret in SECRETS:
        assert secret not in said
    assert set(client.statuses) == {200, 400, 404, 405, 406, 413, 415, 422}
    assert len(set(client.ids)) == len(client.ids)
    if "text" in flags:
        assert all(re.match(r"(DEBUG|INFO|WARNING|ERROR) |  ", line) for line in said.splitlines())
        return
    lines = [json.loads(line) for line in said.splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    assert not [line for line in lines if "exception" in line]
    requests = {line["request_id"]: line for line in lines if line["logger"] == "service.access"}
    told = [(requests[id_]["status"], "cut" in requests[id_]) for id_ in client.ids]
    assert [status for status, _ in told] == client.statuses


def test_the_line_of_a_request_has_its_route_status_time_size_and_model_version(tmp_path: Path) -> None:
    """The route's template, not the path."""
    file = tmp_path / "log"
    with file.open("wb") as log, serving(log=log) as (port, _):
        client = Client(port)
        client.send(
            "POST", "/predict", json.dumps(PATIENT).encode(), Content_Type="application/json", X_Request_ID="a:1"
        )
        client.post("/predict/batch", [PATIENT] * 3)
        client.post("/predict/batch?keep=*", b"\n".join([json.dumps(PATIENT).encode()] * 5), "application/x-ndjson")
        client.send("GET", "/nothing")
    lines = [line for line in map(json.loads, file.read_text().splitlines()) if line["logger"] == "service.access"]
    single, batch, table, nothing = lines[-4:]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", single.pop("time"))
    assert 0 < single.pop("ms") < 10_000
    assert single.pop("bytes_out") > 50
    version = single.pop("model_version")
    assert single == {
        "level": "info", "logger": "service.access", "message": "request", "request_id": "a:1", "method": "POST",
        "route": "/predict", "status": 200, "bytes_in": len(json.dumps(PATIENT)), "rows": 1,
    }  # fmt: skip
    assert (batch["route"], batch["rows"], batch["model_version"]) == ("/predict/batch", 3, version)
    assert (table["route"], table["rows"], table["model_version"]) == ("/predict/batch", 5, version)
    assert (nothing["route"], nothing["status"], "rows" in nothing) == ("other", 404, False)
    assert client.ids[0] == "a:1"


def test_without_an_access_log_requests_are_not_logged(tmp_path: Path) -> None:
    """Everything else is, and responses keep their ids."""
    file = tmp_path / "log"
    with file.open("wb") as log, serving("--no-access-log", log=log) as (port, _):
        client = Client(port)
        client.post("/predict", PATIENT)
    loggers = [json.loads(line)["logger"] for line in file.read_text().splitlines()]
    assert client.ids[0]
    assert "service.api.state" in loggers
    assert "service.access" not in loggers


def test_a_log_that_nobody_reads_blocks_no_request() -> None:
    """Lines beyond the bound are dropped and counted; once the log is read, it reports how many."""
    unread, log = os.pipe()
    lines: list[dict[str, Any]] = []

    def read() -> None:
        with os.fdopen(unread) as file:
            lines.extend(map(json.loads, file))

    reader = threading.Thread(target=read)
    try:
        with serving(log=log) as (port, _):
            os.close(log)
            log = -1
            sent = 13_000  # 10,000 are kept, and a pipe holds some hundred
            with socket.create_connection(("127.0.0.1", port), 30) as connection:
                for _ in range(sent // 100):
                    connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
                    seen = b""
                    while seen.count(b'{"status":"live"}') < 100:
                        seen += connection.recv(65536)
            text = get(port, "/metrics")
            found = re.search(r"^heart_log_dropped_total (\S+)$", text, re.MULTILINE)
            assert found
            dropped = int(float(found[1]))
            assert 1000 < dropped < sent
            reader.start()
            time.sleep(0.5)
    finally:
        if log >= 0:
            os.close(log)
    reader.join(30)
    live = [line for line in lines if line.get("route") == "/health/live"]
    said = [line["message"] for line in lines if line["level"] == "warning"]
    assert sum(int(message.split()[0]) for message in said) >= dropped
    assert sent - dropped <= len(live) + 1 <= sent
