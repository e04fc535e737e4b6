"""Tables over real connections: responses begin before the body has ended, with back-pressure in both directions."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import uvicorn

from patient.record import EXAMPLE, FIELDS
from service.app import create_app, with_middleware
from service.http.streams import MAX_BUFFERED_BYTES, StreamPool
from service.model.predictor import Predictor
from service.settings import Settings
from service.tables.formats import ARROW, CSV, NDJSON, PARQUET, Format
from tests.service.tables.conftest import packed, unpacked

LINE = json.dumps(EXAMPLE).encode() + b"\n"
HEADER = ",".join(FIELDS).encode() + b"\n"
ROW = ",".join(str(EXAMPLE[name]) for name in FIELDS).encode() + b"\n"


class Served:
    """A server in a thread, and the streams in it."""

    def __init__(self, predictor: Predictor, **settings: Any) -> None:
        app = create_app(Settings(**settings), predictor)
        self.streams: StreamPool = app.state.heart.streams
        self.server = uvicorn.Server(uvicorn.Config(with_middleware(app), port=0, log_config=None))
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        until(lambda: self.server.started)
        self.port: int = self.server.servers[0].sockets[0].getsockname()[1]

    def open(self, format_: Format, query: str = "") -> socket.socket:
        """A connection that has sent the head of a request with a chunked body."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        head = f"POST /predict/batch{query} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {format_.media_type}\r\n"
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        return connection

    def post(self, path: str, content: bytes, media_type: str) -> tuple[int, bytes]:
        """Status and body of the answer to a request with a length."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request("POST", path, content, {"Content-Type": media_type})
            response = connection.getresponse()
            return response.status, response.read()


def chunk(content: bytes) -> bytes:
    """A piece of a chunked body; an empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def answer(connection: socket.socket) -> HTTPResponse:
    """The response, once its head has arrived."""
    response = HTTPResponse(connection, method="POST")
    response.begin()
    return response


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")


@contextmanager
def serving(predictor: Predictor, **settings: Any) -> Iterator[Served]:
    """A server for as long as the context."""
    served = Served(predictor, **settings)
    try:
        yield served
    finally:
        served.server.should_exit = True
        served.thread.join(30)
        assert not served.thread.is_alive()


@pytest.fixture(scope="module")
def served(predictor: Predictor) -> Iterator[Served]:
    """A server with the default settings."""
    with serving(predictor) as served:
        yield served


def test_the_first_results_arrive_before_the_body_has_ended(served: Served) -> None:
    """In every format that streams."""
    table = pa.Table.from_pylist([EXAMPLE] * 3)
    for format_, marker in ((NDJSON, b'"probability"'), (CSV, b"0."), (ARROW, b"probability")):
        body = packed(format_, table)
        end = len(body) if format_ is not ARROW else len(body) - 8
        with served.open(format_, "?on_error=report") as connection:
            connection.sendall(chunk(body[:end]))
            response = answer(connection)
            assert response.status == 200
            early = response.read1()
            while marker not in early:
                early += response.read1()
            connection.sendall(chunk(body[end:] or b"\n") + chunk(b""))
            rows = [row for row in unpacked(format_, early + response.read()) if "summary" not in row]
            assert len(rows) == 3


def test_a_client_that_does_not_read_the_response_cannot_send_more(served: Served) -> None:
    """Buffers stay small, and once it reads it gets everything."""
    lines = 200_000
    sent = [0]
    with served.open(NDJSON) as connection:

        def send() -> None:
            for _ in range(lines // 1000):
                connection.sendall(chunk(LINE * 1000))
                sent[0] += 1000
            connection.sendall(chunk(b""))

        thread = threading.Thread(target=send)
        thread.start()
        seen = -1
        while seen != sent[0]:  # until nothing moves any more
            seen = sent[0]
            time.sleep(0.5)
        assert 0 < seen < lines
        assert seen * len(LINE) < 4 * MAX_BUFFERED_BYTES + 16 * 2**20  # ours, and the sockets' own buffers
        found = answer(connection).read().splitlines()
        thread.join()
    assert len(found) == lines + 1
    assert json.loads(found[-1])["summary"]["rows"] == lines


@pytest.mark.parametrize("option", ["report", "refuse"])
def test_a_client_that_disconnects_stops_the_work(served: Served, option: str) -> None:
    """Its thread is free again, whether the client was sending or waiting."""
    connection = served.open(CSV, f"?on_error={option}")
    connection.sendall(chunk(HEADER + ROW * 10))
    until(lambda: served.streams.places.taken == 1)
    connection.close()
    until(lambda: served.streams.places.taken == 0)
    connection = served.open(CSV, f"?on_error={option}")
    connection.sendall(chunk(HEADER + ROW * 300_000) + chunk(b""))
    until(lambda: served.streams.places.taken == 1)
    connection.close()
    until(lambda: served.streams.places.taken == 0)


def test_the_response_to_a_damaged_stream_is_cut_off_without_an_end(served: Served) -> None:
    """A client cannot take half a response for a whole one; the last line of NDJSON says why."""
    for format_, good, bad in (
        (CSV, HEADER.strip() + b",mrn\n" + (ROW.strip() + b",m\n") * 10, ROW.strip() + b',"never closed\n'),
        (NDJSON, LINE * 10, b'{"' + b"x" * 2_000_000),
    ):
        with served.open(format_, "?on_error=report&keep=mrn") as connection:
            connection.sendall(chunk(good))
            response = answer(connection)
            assert response.status == 200
            early = response.read1()
            connection.sendall(chunk(bad) + chunk(b""))
            with pytest.raises(IncompleteRead) as caught:
                response.read()
            whole = early + caught.value.partial
        assert whole.count(b"0.336") == 10
        if format_ is NDJSON:
            assert "longer than" in json.loads(whole.splitlines()[-1])["summary"]["cut"]


def test_an_error_reaches_a_client_that_still_sends(served: Served) -> None:
    """Its body is read to the end, or it would only see a broken connection."""
    body = b",".join(name.encode() for name in FIELDS if name != "sex") + b",name\n" + b"63,x\n" * 2_000_000
    status, content = served.post("/predict/batch", body, "text/csv")
    assert status == 422
    assert [error.get("pointer") for error in json.loads(content)["errors"]] == ["/sex", ""]


def test_a_body_that_stalls_gets_408(predictor: Predictor) -> None:
    """Nor does a body that arrives in small pieces keep its thread forever."""
    with serving(predictor, max_stall=0.2) as served, served.open(CSV) as connection:
        connection.sendall(chunk(HEADER))
        assert answer(connection).status == 408
    with serving(predictor, max_seconds=0.5) as served, served.open(CSV) as connection:
        connection.sendall(chunk(HEADER))

        def drip() -> None:
            for _ in range(20):
                try:
                    connection.sendall(chunk(ROW))
                except OSError:
                    return
                time.sleep(0.1)

        thread = threading.Thread(target=drip)
        thread.start()
        assert answer(connection).status == 408
        thread.join()


def test_a_client_that_stops_reading_is_cut_off(predictor: Predictor) -> None:
    """After the time that a body may stall."""
    with serving(predictor, max_stall=0.3) as served, served.open(NDJSON) as connection:

        def send() -> None:
            try:
                while True:
                    connection.sendall(chunk(LINE * 1000))
            except OSError:
                return

        thread = threading.Thread(target=send)
        thread.start()
        until(lambda: served.streams.places.taken == 1)
        until(lambda: served.streams.places.taken == 0)
        connection.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_table_beyond_the_limit_of_streams_gets_503(predictor: Predictor) -> None:
    """With Retry-After; single records are still served."""
    with serving(predictor, max_streams=1) as served, served.open(CSV) as connection:
        connection.sendall(chunk(HEADER))
        until(lambda: served.streams.places.taken == 1)
        with served.open(CSV) as other:
            other.sendall(chunk(HEADER + ROW) + chunk(b""))
            response = answer(other)
            assert (response.status, response.headers["retry-after"]) == (503, "1")
        assert served.post("/predict", LINE, "application/json")[0] == 200
        connection.sendall(chunk(ROW) + chunk(b""))
        assert answer(connection).status == 200


def test_who_has_sent_no_data_holds_no_place(predictor: Predictor) -> None:
    with serving(predictor, max_streams=1) as served, served.open(CSV), served.open(NDJSON):
        assert served.post("/predict/batch", HEADER + ROW, "text/csv")[0] == 200


def test_a_slow_client_makes_way_for_others(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that sends too slowly, or reads too slowly; one that is as fast as asked keeps its place."""
    monkeypatch.setattr("service.http.streams.SLOW_AFTER_SECONDS", 0.1)
    with serving(predictor, max_streams=1, min_rate=1000) as served, served.open(CSV) as connection:
        connection.sendall(chunk(HEADER))
        time.sleep(0.5)
        assert served.post("/predict/batch", HEADER + ROW, "text/csv")[0] == 200
        response = answer(connection)
        assert (response.status, b"--min-rate" in response.read()) == (408, True)
    with serving(predictor, max_streams=1, min_rate=100) as served, served.open(CSV) as connection:
        connection.sendall(chunk(HEADER + ROW * 100))
        time.sleep(0.5)
        assert served.post("/predict/batch", HEADER + ROW, "text/csv")[0] == 503
        connection.sendall(chunk(b""))
        assert answer(connection).status == 200


def test_several_formats_at_once_do_not_mix(served: Served, predictor: Predictor) -> None:
    """Each client gets its own rows in its own format."""
    ages = np.arange(20, 110)
    rows = np.tile(np.array([EXAMPLE[name] for name in FIELDS], np.float32), (len(ages), 1))
    rows[:, 0] = ages
    expected = predictor(rows)

    def ask(number: int) -> None:
        format_ = (NDJSON, CSV, ARROW, PARQUET)[number % 4]
        order = np.roll(np.arange(len(ages)), number)
        records = [EXAMPLE | {"age": int(ages[i])} for i in np.tile(order, 30)]
        content = packed(format_, pa.Table.from_pylist(records))
        status, answered = served.post("/predict/batch?on_error=refuse", content, format_.media_type)
        assert status == 200
        found = [row["probability"] for row in unpacked(format_, answered)]
        assert found == pytest.approx(np.tile(expected[order], 30), abs=1e-6)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(12)))
