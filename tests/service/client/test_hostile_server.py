"""A hostile server cannot delay the client, raise other exceptions than ServiceError, or steer the terminal."""

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from click.testing import CliRunner

from heart import heart
from patient.record import EXAMPLE
from service.client import Client, NotThisService, Refused, ServiceError, Unavailable
from tests.e2e.serving import acting, answering

OK = b"HTTP/1.1 200 OK\r\n"
SCORED = OK + b"X-Model-Version: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
STEERING = "\x1b[2J\x1b]0;owned\x07 \x9b31m \u202eevil\u2066"


def forever(first: bytes, again: bytes) -> Callable[[socket.socket], None]:
    """A server that sends the same bytes again and again, as fast as they are read."""

    def act(listening: socket.socket) -> None:
        while True:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.sendall(first)
                while True:
                    connection.sendall(again)

    return act


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: b\r\n"),
        (OK, b"X-A: b\r\n"),
        (OK + b"X-A: ", b"b" * 100),
    ],
    ids=["continue", "chunks", "trailers", "headers", "header"],
)
def test_a_call_ends_at_its_deadline_whatever_arrives(first: bytes, again: bytes) -> None:
    """Or before, as soon as it cannot be a response."""
    with acting(forever(first, again)) as url, Client(url, timeout=1, deadline=1) as client:
        began = time.monotonic()
        with pytest.raises(ServiceError):
            client.predict(EXAMPLE)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("first", "again"),
    [(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), (SCORED + b"0\r\n", b"X-A: b\r\n")],
    ids=["continue", "trailers"],
)
def test_nor_does_a_table_wait_for_ever_for_what_is_no_result(first: bytes, again: bytes) -> None:
    """Its results may take as long as they need."""
    with acting(forever(first, again)) as url, Client(url, timeout=1, deadline=1) as client:
        began = time.monotonic()
        with pytest.raises(ServiceError):
            client.score(b"age\n", kind="csv").read()
        assert time.monotonic() - began < 5


def test_interim_responses_are_counted() -> None:
    """However slowly they come: a table has no deadline for its results."""

    def act(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            while True:
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                time.sleep(0.05)

    with acting(act) as url, Client(url, retry=False) as client:
        began = time.monotonic()
        with pytest.raises(NotThisService):
            client.score(b"age\n", kind="csv")
        assert time.monotonic() - began < 5


def problem(**content: object) -> bytes:
    body = json.dumps({"detail": "no", **content}).replace('"inf"', "1e999").encode()
    return b"HTTP/1.1 422 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize(
    "answer",
    [
        problem(total="inf"),
        problem(total=1e308, errors=[{"pointer": "/a", "detail": "b"}]),
        problem(errors=5),
        problem(errors=[{"pointer": None}]),
        b"HTTP/1.1 503 X\r\nRetry-After: %b\r\nContent-Length: 0\r\n\r\n" % (b"9" * 400),
        OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nxxxxx\r\n",
        OK + b"Content-Length: 100\r\n\r\n" + b"[" * 100,
    ],
)
def test_every_failure_is_a_service_error(answer: bytes) -> None:
    with answering(*[answer] * 9) as url, Client(url, timeout=1, deadline=1, retry=False) as client:
        with pytest.raises(ServiceError):
            client.predict(EXAMPLE)
        if not answer.endswith(b"["):  # results are passed on as they are
            with pytest.raises(ServiceError):
                client.score(b"age\n", kind="csv").read()


def test_a_response_without_a_threshold_that_is_a_number_is_not_of_this_service() -> None:
    head = OK + b"X-Threshold: abc\r\nContent-Length: 0\r\n\r\n"
    with answering(head) as url, Client(url) as client, pytest.raises(NotThisService):
        client.score(b"age\n", kind="csv")


def test_no_text_of_a_server_steers_the_terminal() -> None:
    """Neither details nor pointers, ids or notes have control characters, or any that turn the direction of text."""
    content = problem(detail=STEERING, errors=[{"pointer": f"/{STEERING}", "detail": STEERING}])
    headed = content.replace(b"\r\n", b"\r\nX-Request-ID: \x1b[31m\r\n", 1)
    scored = OK + b"X-Table-Notes: a\x1b[2Jb\r\nX-Model-Version: \x9b31m\r\nContent-Length: 0\r\n\r\n"
    with answering(headed, scored) as url, Client(url) as client:
        with pytest.raises(Refused) as caught:
            client.predict(EXAMPLE)
        with client.score(b"age\n", kind="csv") as results:
            texts = [str(caught.value), *results.notes, results.model_version]
    assert not [text for text in texts if set(text) & set("\x1b\x07\x9b\u202e\u2066\r\n")]
    assert "owned" in texts[0]


def test_nor_does_what_the_command_prints() -> None:
    """Predictions, explanations and errors of another service, as text and as JSON."""
    prediction = {"probability": 0.5, "heart_disease": True, "missing": [], "threshold": 0.5, "model_version": STEERING}
    body = json.dumps(prediction).encode()
    good = OK + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    for answer, options in ((good, []), (good, ["--json"]), (problem(detail=STEERING), [])):
        with answering(answer) as url:
            flags = [word for name, value in EXAMPLE.items() for word in (f"--{name}", str(value))]
            found = CliRunner().invoke(heart, ["predict", "--url", url, *flags, *options])
        assert "owned" in found.output
        assert not set(found.output) & set("\x1b\x07\x9b\u202e\u2066")


def test_unavailable_is_what_never_ends() -> None:
    """So that a caller may try again later."""
    with (
        acting(forever(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n")) as url,
        Client(url, timeout=1, deadline=0.5) as client,
        pytest.raises(Unavailable),
    ):
        client.predict(EXAMPLE)
