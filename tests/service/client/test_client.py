"""The client with real processes: the service, also killed, full or absent, and other servers."""

import asyncio
import itertools
import json
import os
import pickle
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patient.record import EXAMPLE, PatientRecord
from service.client import (
    AsyncClient,
    Client,
    Forbidden,
    InvalidRecord,
    NotThisService,
    Refused,
    ServiceError,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from tests.conftest import ROOT
from tests.e2e.serving import COMMAND, acting, answering, free_port, get, serving, wait_until_ready

HEAD = ",".join(EXAMPLE) + "\n"
ROW = ",".join(map(str, EXAMPLE.values())) + "\n"
ANSWER = b'{"probability":0.5,"heart_disease":true,"missing":[],"threshold":0.5,"model_version":"7"}'


def raw(status: str, body: bytes, *headers: str) -> bytes:
    """A response as bytes."""
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "\r\n"]).encode() + body


OK = raw("200 OK", ANSWER)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A service."""
    with serving("--log-level", "error") as (number, _):
        yield number


@pytest.fixture
def client(port: int) -> Iterator[Client]:
    """A client of it."""
    with Client(f"http://127.0.0.1:{port}") as found:
        yield found


def posted(port: int, path: str, content: object) -> Any:
    """The service's response, without the client."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def test_every_call_returns_the_services_response(port: int, client: Client) -> None:
    """To the last digit, as a typed object; all calls use one connection."""
    lacking = EXAMPLE | {"ca": None, "chol": np.float64(250)}
    assert client.predict(lacking).model_dump() == posted(port, "/predict", EXAMPLE | {"ca": None, "chol": 250})
    assert client.predict(PatientRecord(**EXAMPLE)).missing == []
    assert client.predict_batch([EXAMPLE, lacking]).model_dump() == posted(
        port, "/predict/batch", [EXAMPLE, EXAMPLE | {"ca": None, "chol": 250}]
    )
    assert client.explain(EXAMPLE).model_dump(mode="json") == posted(port, "/explain", EXAMPLE)
    assert client.model().model_dump(mode="json") == json.loads(get(port, "/model"))
    assert client.ready().model_dump() == json.loads(get(port, "/health/ready"))
    assert len(client._sender.pool.idle) == 1


def test_a_refused_record_names_its_fields_and_no_value(client: Client) -> None:
    """In the message, and in the exception's repr."""
    with pytest.raises(InvalidRecord) as caught:
        client.predict_batch([EXAMPLE, EXAMPLE | {"chol": 987654.5, "thal": 31337}], request_id="visit-7")
    error = caught.value
    assert [(fault.pointer, fault.detail.split()[0]) for fault in error.errors] == [
        ("/1/chol", "Serum"),
        ("/1/thal", "Thallium"),
    ]
    assert (error.status, error.total, error.request_id) == (422, 2, "visit-7")
    for told in (str(error), repr(error)):
        assert "987654" not in told
        assert "31337" not in told
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.errors) == (str(error), error.errors)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float64("nan")])
def test_nan_and_infinity_are_refused_by_the_client(client: Client, bad: float) -> None:
    """pandas has NaN for a missing value; the service only accepts null."""
    with pytest.raises(InvalidRecord) as caught:
        client.predict_batch([EXAMPLE, EXAMPLE | {"chol": bad}])
    assert [fault.pointer for fault in caught.value.errors] == ["/1/chol"]
    assert "nan" not in str(caught.value).replace("NaN", "")
    with pytest.raises(TypeError, match="cannot be of type set"):
        client.predict(EXAMPLE | {"chol": {1}})


def test_a_batch_above_a_limit_is_too_large(client: Client) -> None:
    """By records, and by bytes, which are refused while they are still being sent."""
    for records in (10_001, 100_000):
        with pytest.raises(TooLarge):
            client.predict_batch([EXAMPLE] * records)
    assert client.predict(EXAMPLE).probability


def test_threads_share_a_client(port: int, client: Client) -> None:
    """Each gets its own response."""
    ages = [18 + number / 10 for number in range(400)]
    expected = posted(port, "/predict/batch", [EXAMPLE | {"age": age} for age in ages])["predictions"]
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda age: client.predict(EXAMPLE | {"age": age}).probability, ages))
    assert found == [answer["probability"] for answer in expected]


@contextmanager
def process(port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """The service on this port, which may be killed."""
    words = [word.format(port=port) for word in COMMAND]
    with subprocess.Popen([*words, "--log-level", "error"], cwd=ROOT) as server:
        try:
            yield server
        finally:
            server.kill()


def test_calls_survive_a_restart_of_a_killed_service() -> None:
    """kill -9 while eight threads send; all go on with the next process on the same port."""
    port = free_port()
    done = threading.Event()
    with Client(f"http://127.0.0.1:{port}", deadline=120) as client, ThreadPoolExecutor(8) as threads:

        def ask() -> int:
            count = 0
            while not done.is_set():
                assert client.predict(EXAMPLE).model_version
                count += 1
            return count

        with process(port) as server:
            wait_until_ready(port, server)
            asking = [threads.submit(ask) for _ in range(8)]
            while not client._sender.pool.idle:
                assert not any(one.done() for one in asking)
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
        with process(port) as server:
            wait_until_ready(port, server)
            for _ in range(8):
                client.predict(EXAMPLE)
            done.set()
            assert all(one.result() > 0 for one in asking)


def test_a_full_service_is_retried_until_the_deadline() -> None:
    """503 with Retry-After: a long deadline gets a response, a short one Unavailable."""
    with serving("--max-waiting", "1", "--log-level", "error") as (port, _), ThreadPoolExecutor(24) as threads:
        url = f"http://127.0.0.1:{port}"
        with Client(url, deadline=0.5) as hasty:

            def away(_: int) -> bool:
                try:
                    hasty.predict(EXAMPLE)
                except Unavailable as error:
                    return error.status == 503
                return False

            for batch in itertools.count():
                assert batch < 200
                if any(threads.map(away, range(200))):
                    break
        with Client(url, deadline=600) as patient:
            assert len([*threads.map(lambda _: patient.predict(EXAMPLE), range(100))]) == 100


def test_a_connection_that_the_service_has_closed_is_replaced() -> None:
    """Whether it was closed between two requests, or as the second one arrived."""
    with answering(OK, OK, OK) as url, Client(url) as client:
        assert [client.predict(EXAMPLE).model_version for _ in range(3)] == ["7", "7", "7"]

    def closing_late(listening: socket.socket) -> None:
        for answers in ([OK, b""], [OK]):
            connection, _ = listening.accept()
            with connection:
                for answer in answers:
                    connection.recv(2**16)
                    connection.sendall(answer)

    with acting(closing_late) as url, Client(url) as client:
        assert [client.predict(EXAMPLE).model_version for _ in range(2)] == ["7", "7"]


def silent(listening: socket.socket) -> None:
    """Accept connections and never respond."""
    with ExitStack() as connections:
        while True:
            connections.enter_context(listening.accept()[0])


@pytest.mark.parametrize(
    "answer",
    [
        raw("404 Not Found", b"<h1>nginx</h1>"),
        raw("200 OK", b"<h1>It works</h1>"),
        raw("200 OK", b'{"probability": "high"}'),
        raw("200 OK", b""),
        raw("302 Found", b"", "Location: http://127.0.0.1/login"),
        raw("500 Internal Server Error", b"[1]"),
        raw("400 Bad Request", b'{"detail": "no", "errors": [7]}'),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"220 mail ESMTP\r\n",
    ],
)
def test_another_server_is_recognized(answer: bytes) -> None:
    """Without retries; the message names the address."""
    with answering(answer) as url, Client(url) as client:
        with pytest.raises(NotThisService, match=r"127\.0\.0\.1:\d+") as caught:
            client.predict(EXAMPLE)
        assert "nginx" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind"),
    [
        ("401 Unauthorized", b'{"detail": "No."}', (), Unauthorized),
        ("403 Forbidden", b'{"detail": "No."}', (), Forbidden),
        ("409 Conflict", b'{"detail": "No."}', (), Refused),
        ("500 Internal Server Error", b'{"detail": "No."}', (), Refused),
        ("503 Service Unavailable", b'{"detail": "No."}', (), Unavailable),  # a lost GPU: no time to come back
        ("503 Service Unavailable", b'{"detail": "No."}', ("Retry-After: 3600",), Unavailable),
    ],
)
def test_a_refusal_is_raised_without_retries(
    status: str, body: bytes, headers: tuple[str, ...], kind: type[ServiceError]
) -> None:
    """With the service's detail and request id; also if a retry would come after the deadline."""
    with answering(raw(status, body, "X-Request-ID: theirs", *headers)) as url, Client(url) as client:
        with pytest.raises(kind) as caught:
            client.predict(EXAMPLE)
        assert type(caught.value) is kind
        assert str(caught.value) == "No. (request theirs)"
        assert caught.value.status == int(status[:3])


@pytest.mark.parametrize(
    "failure",
    [
        raw("503 Service Unavailable", b'{"detail": "Full."}', "retry-after: 0"),
        raw("503 Service Unavailable", b"<h1>no server</h1>"),
        raw("502 Bad Gateway", b"<h1>no server</h1>"),
        raw("504 Gateway Timeout", b"", "Retry-After: soon"),
        b"",
        OK[:20],
        OK[:-20],
    ],
)
def test_transient_failures_are_retried(failure: bytes) -> None:
    """Failures of a proxy, and responses that are cut off."""
    asked: list[bytes] = []
    with answering(failure, failure, OK, asked=asked) as url, Client(url) as client:
        assert client.predict(EXAMPLE, request_id="visit-7").model_version == "7"
    assert len(asked) == 3
    assert len(set(asked)) == 1
    assert b"\r\nX-Request-ID: visit-7\r\n" in asked[0]


def test_the_key_is_sent_and_never_shown() -> None:
    """Neither in exceptions nor in the client's repr."""
    asked: list[bytes] = []
    denied = raw("401 Unauthorized", b'{"detail": "No."}')
    with answering(denied, asked=asked) as url, closing(Client(url, key="s3cret")) as client:
        with pytest.raises(Unauthorized) as caught:
            client.predict(EXAMPLE)
        told = f"{client!r} {vars(client)!r} {caught.value!r}"
    assert b"\r\nAuthorization: Bearer s3cret\r\n" in asked[0]
    assert "s3cret" not in told
    for wrong in ("", "two words", "line\r\nX-Other: 1"):
        with pytest.raises(ValueError, match="Invalid API key") as refused:
            Client(url, key=wrong)
        assert wrong == "" or wrong not in str(refused.value)


def test_invalid_arguments_raise_value_error() -> None:
    """Before anything is sent; a password in a URL is not repeated."""
    for url in ("127.0.0.1:8000", "ftp://a", "http://", "http://user:pw@a", "http://a/?q=1", "http://a\r\nb"):
        with pytest.raises(ValueError, match="such as http://127") as caught:
            Client(url)
        assert "pw" not in str(caught.value)
    with pytest.raises(ValueError, match="above 0"):
        Client(timeout=0)
    with Client() as client, pytest.raises(ValueError, match="id has up to 128"):
        client.predict(EXAMPLE, request_id="a\r\nb")
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.predict(EXAMPLE)


def test_an_absent_service_is_unavailable_after_the_deadline() -> None:
    """A port where nothing listens, and a host that does not exist."""
    with Client(f"http://127.0.0.1:{free_port()}", deadline=0.2) as client:
        with pytest.raises(Unavailable, match=r"No service answers at 127.0.0.1:\d+: Connection refused") as caught:
            client.predict(EXAMPLE)
        assert caught.value.request_id
    with (
        Client("http://nobody.invalid", deadline=0.2) as client,
        pytest.raises(Unavailable, match=r"nobody\.invalid:80"),
    ):
        client.predict(EXAMPLE)


def test_a_silent_or_slow_service_is_unavailable_after_the_deadline() -> None:
    """One that never responds, and one that sends a byte at a time for ever."""

    def dribbling(listening: socket.socket) -> None:
        while True:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Filler: ")
                while True:
                    connection.sendall(b"x")
                    threading.Event().wait(0.01)

    for act in (silent, dribbling):
        with acting(act) as url, Client(url, timeout=0.1, deadline=0.3) as client, pytest.raises(Unavailable) as caught:
            client.predict(EXAMPLE)
        assert "respond" in str(caught.value)


def test_tls_needs_a_certificate_that_is_trusted(port: int, tmp_path: Path) -> None:
    """By the client's context or the system; plain HTTP is not TLS."""
    pem = tmp_path / "certificate.pem"
    made = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2")
    names = ("-addext", "subjectAltName=DNS:localhost", "-keyout", str(pem), "-out", str(tmp_path / "public.pem"))
    subprocess.run([*made, *names], check=True, capture_output=True)
    pem.write_text(pem.read_text() + (tmp_path / "public.pem").read_text())
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(pem)

    def secure(listening: socket.socket) -> None:
        while True:
            with suppress(ssl.SSLError), theirs.wrap_socket(listening.accept()[0], server_side=True) as connection:
                connection.recv(2**16)
                connection.sendall(OK)

    with acting(secure) as url:
        url = url.replace("http://127.0.0.1", "https://localhost")
        ours = ssl.create_default_context(cafile=tmp_path / "public.pem")
        with Client(url, context=ours) as client:
            assert [client.predict(EXAMPLE).model_version for _ in range(2)] == ["7", "7"]
        with Client(url) as client, pytest.raises(Unavailable, match="is not trusted"):
            client.predict(EXAMPLE)
    with Client(f"https://127.0.0.1:{port}") as client, pytest.raises(NotThisService, match="does not speak TLS"):
        client.predict(EXAMPLE)


def test_tasks_share_a_client(port: int) -> None:
    """The same responses under asyncio, with more tasks than threads."""

    async def work() -> list[float]:
        async with AsyncClient(f"http://127.0.0.1:{port}", concurrency=4) as client:
            assert (await client.ready()).model_version == (await client.model()).version
            assert (await client.explain(EXAMPLE)).contributions
            assert len((await client.predict_batch([EXAMPLE] * 3)).predictions) == 3
            with pytest.raises(InvalidRecord):
                await client.predict(EXAMPLE | {"sex": 7})
            found = await asyncio.gather(*(client.predict(EXAMPLE | {"age": age}) for age in range(20, 80)))
            return [answer.probability for answer in found]

    expected = posted(port, "/predict/batch", [EXAMPLE | {"age": age} for age in range(20, 80)])["predictions"]
    assert asyncio.run(work()) == [answer["probability"] for answer in expected]


def test_a_cancelled_task_leaves_no_thread_and_no_connection() -> None:
    """Closing the client returns although there was never a response."""

    async def work(url: str) -> None:
        async with AsyncClient(url, timeout=600, deadline=600, concurrency=2) as client:
            tasks = [asyncio.create_task(client.predict(EXAMPLE)) for _ in range(4)]
            await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            assert all(
                isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*tasks, return_exceptions=True)
            )
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1), client.score(b"age\n", kind="csv"):
                    raise AssertionError("nobody has answered")

    with acting(silent) as url:
        asyncio.run(work(url))


def test_no_connection_is_left_open(port: int) -> None:
    """Neither after closing the client, nor after a table that was not read to its end."""
    code = f"""
from service.client import Client
with Client("http://127.0.0.1:{port}") as client:
    client.ready()
    with client.score(iter([{HEAD.encode()!r}, {ROW.encode()!r} * 90_000]), kind="csv", on_error="report") as answer:
        answer.read1(10)
    assert client.ready().status == "ready"
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_ready_waits_until_the_service_is() -> None:
    """For a script that has just started it."""
    port = free_port()
    with Client(f"http://127.0.0.1:{port}", deadline=120) as client, process(port):
        assert client.ready().status == "ready"
