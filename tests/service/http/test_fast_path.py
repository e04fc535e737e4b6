"""POST /predict: the fast path and FastAPI's route are one service, whatever arrives, and in what pieces."""

import ast
import contextlib
import gzip
import inspect
import json
import re
import socket
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from patient.record import EXAMPLE
from service.app import create_app, with_middleware
from service.http.api_keys import new_key
from service.http.fast_path import MAX_KNOWN_HEADS, FastPathProtocol, RecordRequest
from service.model.device import DeviceLost
from service.model.predictor import Predictor
from service.observe.metrics import REQUEST_SECONDS
from service.settings import Settings
from tests.conftest import served

RECORD = json.dumps(EXAMPLE).encode()
PLAIN = "Content-Type: application/json"
ORDINARY = "Content-Type: application/json; charset=utf-8"  # means the same, and is not on the fast path


@dataclass
class Service:
    """A running service, the ASGI requests that it got, and its access log."""

    predictor: Predictor
    state: Any = None
    address: tuple[str, int] = ("", 0)
    asgi: list[str] = field(default_factory=list)
    log: list[Any] = field(default_factory=list)

    @contextmanager
    def running(self, **chosen: Any) -> Iterator["Service"]:
        app = create_app(Settings(drain=0).model_copy(update=chosen), self.predictor)
        self.state, inner = app.state.heart, with_middleware(app)
        inner.access_log = self.state.fast_path.access_log = self.log.extend  # type: ignore[attr-defined]

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                self.asgi.append(scope["path"])
            await inner(scope, receive, send)

        with served(app, counted) as client:
            self.address = client.base_url.host, client.base_url.port or 0
            yield self

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        connection = socket.socket()
        connection.settimeout(20)
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.connect(self.address)
        return connection

    def say(self, *sent: bytes) -> list["Answer"]:
        """Send requests one by one on a connection of their own; return the responses."""
        with self.connect() as connection:
            return [exchange(connection, each) for each in sent]

    def counts(self) -> np.ndarray:
        """All counters but those of times."""
        self.state.metrics.flush()
        cells: np.ndarray = self.state.metrics._counters.array.copy()
        cells[REQUEST_SECONDS.start : REQUEST_SECONDS.end] = 0
        return cells


@dataclass(frozen=True)
class Answer:
    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    @property
    def request_id(self) -> str:
        return re.search(rb"x-request-id: (.*)\r\n", self.head)[1].decode()  # type: ignore[index]

    def without_date_and_id(self) -> tuple[bytes, bytes]:
        return re.sub(rb"(date|x-request-id): .*\r\n", rb"\1\r\n", self.head), self.body


def read_answer(connection: socket.socket, rest: bytes = b"") -> tuple[Answer, bytes]:
    """Read one response; return it, and what was read after it."""
    while b"\r\n\r\n" not in rest:
        more = connection.recv(2**16)
        assert more, f"closed after {rest!r}"
        rest += more
    head, _, rest = rest.partition(b"\r\n\r\n")
    size = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
    while len(rest) < size:
        more = connection.recv(2**16)
        assert more
        rest += more
    return Answer(head + b"\r\n", rest[:size]), rest[size:]


def exchange(connection: socket.socket, sent: bytes) -> Answer:
    connection.sendall(sent)
    answer, rest = read_answer(connection)
    assert not rest
    return answer


def request(body: bytes = RECORD, *headers: str, kind: str = PLAIN, path: str = "/predict") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", kind, f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes, id_: str = "n") -> bytes:
    lines = ["POST /predict HTTP/1.1", "Host: localhost", PLAIN, f"X-Request-ID: {id_}", "Transfer-Encoding: chunked"]
    return "\r\n".join([*lines, "", ""]).encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def aged(age: int) -> bytes:
    return json.dumps(EXAMPLE | {"age": age}).encode()


@pytest.fixture(scope="module")
def service(predictor: Predictor) -> Iterator[Service]:
    with Service(predictor).running() as running:
        yield running


@pytest.fixture(scope="module")
def by_age(predictor: Predictor) -> dict[int, float]:
    """The probability of the example at each age."""
    rows = np.array([list((EXAMPLE | {"age": age}).values()) for age in range(20, 91)], np.float32)
    return {age: round(float(found), 7) for age, found in zip(range(20, 91), predictor(rows), strict=True)}


BODIES = {
    "a record": RECORD,
    "nulls": json.dumps(EXAMPLE | {"ca": None, "chol": None, "thal": None}).encode(),
    "chest pain 0": json.dumps(EXAMPLE | {"cp": 0}).encode(),
    "codes as floats": json.dumps(EXAMPLE | {"cp": 1.0, "sex": 0.0}).encode(),
    "spaces": json.dumps(EXAMPLE, indent=4).encode(),
    "a byte order mark": b"\xef\xbb\xbf" + RECORD,
    "UTF-16": RECORD.decode().encode("utf-16"),
    "out of range": json.dumps(EXAMPLE | {"chol": 0, "age": 999}).encode(),
    "wrong types": json.dumps(EXAMPLE | {"chol": "Jane Doe", "age": [1]}).encode(),
    "unknown and missing fields": json.dumps({"Name": "Jane Doe", "age": 50}).encode(),
    "a doubled key": RECORD[:-1] + b', "age": 50}',
    "NaN": RECORD.replace(b": 233", b": NaN"),
    "an array": b"[" + RECORD + b"]",
    "no JSON": b"age=63",
    "cut off": RECORD[:-9],
    "not UTF-8": b"\xff\xfe\xfd",
    "16 KiB": RECORD[:-1] + b" " * (2**14 - len(RECORD)) + b"}",
    "more than 16 KiB": RECORD[:-1] + b" " * 2**14 + b"}",
    "deep": b"[" * 3000,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("id_", [(), ("X-Request-ID: ward-7:42_x.y",), ("X-Request-ID: no spaces allowed",)])
def test_both_ways_give_the_same_response_counts_and_log(service: Service, body: bytes, id_: tuple[str, ...]) -> None:
    """Byte for byte, but for the date, and the id where none was sent. The second time the head is known."""
    found = []
    for kind in (ORDINARY, PLAIN, PLAIN):
        service.asgi.clear()
        service.log.clear()
        before = service.counts()
        (answer,) = service.say(request(body, *id_, kind=kind))
        wait_until(lambda: len(service.log) == 1)
        _, _, logged_id, response, rows, version = service.log[0]
        assert logged_id.decode() == answer.request_id
        assert (answer.request_id in id_[0] if id_ else False) == ("ward-7" in "".join(id_))
        found.append((answer.without_date_and_id(), (service.counts() - before).tolist(), response, rows, version))
        assert service.asgi == ([] if kind is PLAIN and len(body) < 8000 else ["/predict"])
    assert found[1] == found[0]
    assert found[2] == found[0]


def test_a_failing_model_fails_both_ways_alike(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """No probability, a lost GPU, and a bug; the log says the same, with the request's id."""

    def raising(error: Exception) -> Callable[..., list[float]]:
        def predict_bytes(_self: Predictor, _rows: Any) -> list[float]:
            raise error

        return predict_bytes

    faults = {
        500: lambda _self, rows: [float("nan")] * len(rows),
        503: raising(DeviceLost("The GPU was lost.")),
        "bug": raising(RuntimeError("secret")),
    }
    with Service(predictor).running() as service:
        for fault, predict_bytes in faults.items():
            monkeypatch.setattr(Predictor, "predict_bytes", predict_bytes)
            found = []
            for kind in (ORDINARY, PLAIN):
                caplog.clear()
                (answer,) = service.say(request(kind=kind))
                time.sleep(0.1)  # a bug is logged behind its response
                lines = [(r.name, r.levelname, r.getMessage(), bool(r.exc_info)) for r in caplog.records]
                found.append((answer.without_date_and_id(), [line for line in lines if line[0].startswith("service")]))
            assert found[0] == found[1]
            assert answer.status == (500 if fault == "bug" else fault)
            assert b"secret" not in answer.body
            monkeypatch.undo()
        assert service.say(request())[0].status == 200


def test_a_full_queue_refuses_both_ways_alike(predictor: Predictor) -> None:
    """Before the body is read."""
    with Service(predictor).running() as service:
        service.state.batcher.limit = 0
        found = []
        for kind in (ORDINARY, PLAIN, PLAIN):
            with service.connect() as connection:
                head, _, body = request(kind=kind).partition(b"\r\n\r\n")
                answer = exchange(connection, head + b"\r\n\r\n")
                found.append(answer.without_date_and_id())
                connection.sendall(body)
                assert exchange(connection, request(kind=kind)).status == 503  # the connection is still in order
        assert answer.status == 503
        assert b"retry-after: 1\r\n" in answer.head
        assert found[0] == found[1] == found[2]
        service.state.batcher.limit = 1
        assert service.say(request())[0].status == 200


def test_keys_are_checked_for_every_request(predictor: Predictor, tmp_path: Any) -> None:
    """Also where the head is known: a revoked key is refused by the next request on the same connection."""
    key, line = new_key("ward")
    metrics_key, metrics_line = new_key("prometheus", "metrics")
    file = tmp_path / "keys"
    file.write_text(f"{line}\n{metrics_line}\n")
    with Service(predictor).running(keys=file) as service:
        headers = [f"Authorization: Bearer {key}", f"X-API-Key: {key}", f"Authorization: Bearer {metrics_key}"]
        headers += ["Authorization: Bearer heart_wrong", "Authorization: Basic eDp5", "X-Nothing: 1"]
        for header, status in zip(headers, [200, 200, 403, 401, 401, 401], strict=True):
            ordinary, *fast = service.say(
                request(RECORD, header, kind=ORDINARY), request(RECORD, header), request(RECORD, header)
            )
            assert ordinary.status == status
            assert {answer.without_date_and_id() for answer in fast} == {ordinary.without_date_and_id()}
        with service.connect() as connection:
            assert exchange(connection, request(RECORD, headers[0])).status == 200
            file.write_text(f"{metrics_line}\n")
            service.state.keys.refresh()
            assert exchange(connection, request(RECORD, headers[0])).status == 401


NOT_PLAIN = {
    "a type with parameters": request(kind=ORDINARY),
    "compressed": request(gzip.compress(RECORD), "Content-Encoding: gzip"),
    "chunks": chunked(RECORD),
    "a query": request(path="/predict?x=1"),
    "HTTP/1.0": request().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/1.0, kept alive": request(RECORD, "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "closing": request(RECORD, "Connection: close"),
    "an upgrade": request(RECORD, "Connection: Upgrade", "Upgrade: h2c"),
}


@pytest.mark.parametrize("sent", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_is_not_plain_goes_the_ordinary_way(service: Service, sent: bytes) -> None:
    expected = json.loads(service.say(request())[0].body)
    service.asgi.clear()
    (answer,) = service.say(sent)
    assert (answer.status, json.loads(answer.body)) == (200, expected)
    assert service.asgi == ["/predict"]


def test_expect_is_answered_with_100(service: Service) -> None:
    head, _, body = request(RECORD, "Expect: 100-continue").partition(b"\r\n\r\n")
    with service.connect() as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert exchange(connection, body).status == 200


@pytest.mark.parametrize("origins", [(), ("https://a.example",)])
def test_with_cors_all_requests_go_the_ordinary_way(predictor: Predictor, origins: tuple[str, ...]) -> None:
    app = create_app(Settings(drain=0).model_copy(update={"cors_origins": origins}), predictor)
    with served(app) as client:
        for origin in ("https://a.example", "null"):
            answer = client.post("/predict", json=EXAMPLE, headers={"Origin": origin})
            assert answer.status_code == 200
            assert answer.headers.get("access-control-allow-origin") == (origin if origin in origins else None)


def test_below_a_prefix_the_path_with_and_without_it_is_fast(predictor: Predictor) -> None:
    with Service(predictor).running(root_path="/heart") as service:
        assert [answer.status for answer in service.say(request(path="/heart/predict"), request())] == [200, 200]
        assert service.asgi == []
    with Service(predictor).running(trust_forwarded_prefix=True) as service:
        assert service.say(request(RECORD, "X-Forwarded-Prefix: /heart"))[0].status == 200
        assert service.asgi == ["/predict"]
    with Service(predictor).running(root_path="/predict") as service:
        assert service.say(request())[0].status == 308


def test_a_request_in_any_two_pieces(service: Service, by_age: dict[int, float]) -> None:
    """Split at every byte, on one connection, whose head is known after the first."""
    with service.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for split in range(1, len(request(aged(20)))):
            age = 20 + split % 71
            sent = request(aged(age))
            connection.sendall(sent[:split])
            time.sleep(0.0005)
            assert json.loads(exchange(connection, sent[split:]).body)["probability"] == by_age[age]


KINDS: dict[str, Callable[[bytes, str], bytes]] = {
    "fast": lambda body, _: request(body),
    "with an id": lambda body, id_: request(body, f"X-Request-ID: {id_}"),
    "ordinary": lambda body, id_: request(body, f"X-Request-ID: {id_}", kind=ORDINARY),
    "chunks": chunked,
    "invalid": lambda _, id_: request(b'{"age": 1}', f"X-Request-ID: {id_}"),
    "no body": lambda _, id_: f"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {id_}\r\n\r\n".encode(),
}


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_mixture_in_any_pieces_is_answered_in_order(service: Service, by_age: dict[int, float], data: Any) -> None:
    """Pipelined or not, on the fast path or not: each request gets its own answer, once."""
    kinds = data.draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=24))
    ages = data.draw(st.lists(st.integers(20, 90), min_size=len(kinds), max_size=len(kinds)))
    sent = b"".join(KINDS[kind](aged(age), f"n-{i}") for i, (kind, age) in enumerate(zip(kinds, ages, strict=True)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    half_closes = data.draw(st.booleans())
    with service.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
            connection.sendall(sent[start:end])
            time.sleep(0.0005)
        if half_closes:
            connection.shutdown(socket.SHUT_WR)
        rest = b""
        for i, (kind, age) in enumerate(zip(kinds, ages, strict=True)):
            answer, rest = read_answer(connection, rest)
            assert answer.status == (422 if kind == "invalid" else 200)
            if kind != "fast":
                assert answer.request_id == f"n-{i}"
            if kind not in ("invalid", "no body"):
                assert json.loads(answer.body)["probability"] == by_age[age]
        assert not rest


def test_a_known_head_followed_by_more_or_less_is_parsed(service: Service, by_age: dict[int, float]) -> None:
    """Only a message that arrives alone and whole skips the parser."""
    one, other = request(aged(40)), request(aged(41))
    service.say(one, other)  # they are known now
    for sent, ages in ((one + other, [40, 41]), (one + other[:-5], [40]), (b"\r\n" + one, [40])):
        with service.connect() as connection:
            connection.sendall(sent)
            rest = b""
            for age in ages:
                answer, rest = read_answer(connection, rest)
                assert json.loads(answer.body)["probability"] == by_age[age]
            if len(ages) == 1 and sent != b"\r\n" + one:
                assert json.loads(exchange(connection, other[-5:]).body)["probability"] == by_age[41]


@pytest.mark.parametrize("header", ["Upgrade: h2c\r\nConnection: Upgrade", "X-Nothing: 1"])
def test_a_body_that_looks_like_a_request_with_a_known_head_is_a_body(service: Service, header: str) -> None:
    """Also one that arrives after its response: to a proxy, a second response would be that of another client."""
    inner = request()
    service.say(inner)
    head = f"POST /nothing HTTP/1.1\r\nHost: localhost\r\n{header}\r\nContent-Length: {len(inner)}\r\n\r\n".encode()
    with service.connect() as connection:
        assert exchange(connection, head).status == 404
        connection.sendall(inner)
        answer = exchange(connection, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert json.loads(answer.body) == {"status": "live"}


def test_line_ends_between_requests_do_not_add_up(predictor: Predictor) -> None:
    """They count towards the head that follows, and no further."""
    with Service(predictor).running(max_head=1024) as service, service.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(600):
            connection.sendall(b"\r\n")
            time.sleep(0.001)
            assert exchange(connection, request()).status == 200


def test_known_heads_are_bounded_and_hold_no_ids(predictor: Predictor) -> None:
    with Service(predictor).running() as service:
        service.say(*(request(RECORD, f"X-N: {i}") for i in range(MAX_KNOWN_HEADS + 10)))
        known = service.state.fast_path.known_heads
        assert 0 < len(known) <= MAX_KNOWN_HEADS
        known.clear()
        service.say(request(RECORD, "X-Request-ID: 1"), request(RECORD, "X-Long: " + "x" * 2000))
        assert not known


def test_a_client_that_does_not_read_is_not_buffered_for(
    service: Service, by_age: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transport's buffer stays below its mark, and nothing is lost once the client reads."""
    transports: list[Any] = []
    made = FastPathProtocol.connection_made

    def connection_made(self: FastPathProtocol, transport: Any) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        transports.append(transport)
        made(self, transport)

    monkeypatch.setattr(FastPathProtocol, "connection_made", connection_made)
    ages = [20 + i % 71 for i in range(3000)]
    sent = b"".join(request(aged(age)) for age in ages)
    with service.connect(receive_buffer=4096) as connection:
        wait_until(lambda: bool(transports))
        connection.setblocking(False)
        done, largest, last_progress = 0, 0, time.monotonic()
        while time.monotonic() < last_progress + 0.3:  # until the service reads no more
            with contextlib.suppress(BlockingIOError):
                if step := connection.send(sent[done : done + 2**14]):
                    done, last_progress = done + step, time.monotonic()
            largest = max(largest, transports[0].get_write_buffer_size())
            time.sleep(0.001)
        connection.setblocking(True)
        rest = b""
        for i, age in enumerate(ages):
            if done < len(sent) and i % 10 == 0:
                done += connection.send(sent[done : done + 2**14])
            answer, rest = read_answer(connection, rest)
            assert json.loads(answer.body)["probability"] == by_age[age]
    assert 0 < largest < 2**17


def test_clients_that_leave_between_run_and_response_harm_nobody(service: Service, by_age: dict[int, float]) -> None:
    """Reset as soon as the request is sent; others in the same run get their own answers."""
    for round_ in range(30):
        gone, stays = [service.connect() for _ in range(8)], [service.connect() for _ in range(8)]
        for i, connection in enumerate([*gone, *stays]):
            connection.sendall(request(aged(20 + (round_ + i) % 71)))
        for connection in gone:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            connection.close()
        for i, connection in enumerate(stays, len(gone)):
            answer, _ = read_answer(connection)
            assert json.loads(answer.body)["probability"] == by_age[20 + (round_ + i) % 71]
            connection.close()
    assert service.say(request())[0].status == 200


def test_a_client_that_leaves_while_it_sends_is_counted(service: Service) -> None:
    """As 499, on both ways."""
    for kind in (ORDINARY, PLAIN):
        service.log.clear()
        with service.connect() as connection:
            connection.sendall(request(kind=kind)[:-5])
            time.sleep(0.05)
        wait_until(lambda: len(service.log) == 1)
        assert service.log[0][3][:4] == ("POST", "/predict", 499, True)


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("did not happen within 5 s")


def attributes(function: Any, of: str) -> set[str]:
    """The attributes of `of`, such as self.cycle, that a function or class uses."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == of}


def test_uvicorn_uses_of_a_request_what_a_record_request_has() -> None:
    """If this fails after an upgrade, compare Uvicorn's protocol with the fast path."""
    used = attributes(HttpToolsProtocol, "self.cycle")
    assert "response_complete" in used
    assert not [name for name in used if not hasattr(RecordRequest(None, b"", 0), name)]  # type: ignore[arg-type]
    begun = attributes(HttpToolsProtocol.on_message_begin, "self")
    state = {"asgi_version", "server", "client", "scheme", "root_path", "app_state"}
    assert begun - state == {"url", "expect_100_continue", "headers", "scope"}
