"""Tables through the client: from any source, of any size, sent while results arrive, and retried where possible."""

import asyncio
import io
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from service.client import (
    AsyncClient,
    Client,
    InvalidRecord,
    Unavailable,
)
from tests.e2e.serving import acting, answering, serving
from tests.service.client.test_client import HEAD, ROW, client, port, raw

__all__ = ["client", "port"]  # fixtures


def test_a_table_comes_from_any_source_and_results_in_any_format(client: Client, tmp_path: Path) -> None:
    """A path, a file, bytes, an iterable; kept columns; the model version."""
    text = (HEAD + ROW * 50).encode()
    (tmp_path / "patients.csv").write_bytes(text)
    with (tmp_path / "patients.csv").open("rb") as file:
        for table in (
            str(tmp_path / "patients.csv"),
            tmp_path / "patients.csv",
            file,
            text,
            iter([text[:99], text[99:]]),
        ):
            with client.score(table, kind="csv", to="ndjson") as answer:
                lines = answer.read().splitlines()
                assert answer.content_type == "application/x-ndjson"
                assert (answer.model_version, answer.threshold) == (client.model().version, 0.5)
            assert len(lines) == 50
    noted = io.BytesIO((HEAD.strip() + ",mrn\n" + ROW.strip() + ",a7\n").encode())
    with client.score(noted, kind="csv", keep=["mrn"]) as answer:
        assert answer.readline() == b"mrn,probability,heart_disease,missing\n"
        assert answer.readline().startswith(b"a7,")


def test_results_arrive_while_the_table_is_sent(client: Client) -> None:
    """They begin while the table is still being generated."""
    answered = 0

    def pieces() -> Iterator[bytes]:
        yield HEAD.encode()
        for _ in range(300):
            yield (ROW * 1000).encode()
        assert answered

    with client.score(pieces(), kind="csv", on_error="report") as answer:
        while piece := answer.read1(2**16):
            answered += piece.count(b"\n")
    assert answered == 300_001


def test_notes_say_what_was_left_out_of_a_table(client: Client) -> None:
    for before, notes in ((b"", []), (b",", ["Column 1 without a name: left out"])):
        with client.score(
            b"".join(before + line + b"\n" for line in (HEAD + ROW).encode().split()), kind="csv"
        ) as scored:
            assert scored.notes == notes
            scored.read()


def test_a_table_that_is_refused_names_its_rows(client: Client) -> None:
    """Before the results begin, with a pointer to each fault."""
    with pytest.raises(InvalidRecord) as caught:
        client.score((HEAD + ROW + ROW.replace("145", "14555")).encode(), kind="csv")
    assert [fault.pointer for fault in caught.value.errors] == ["/1/trestbps"]
    assert "14555" not in str(caught.value)


def test_a_table_is_retried_if_it_can_be_rewound() -> None:
    """From its first byte; an iterable is not retried, and a response that is cut off raises."""
    scored = raw("200 OK", b"probability\n0.5\n", "X-Model-Version: 7", "X-Threshold: 0.5", "Content-Type: text/csv")
    full = raw("503 Service Unavailable", b'{"detail": "Full."}', "retry-after: 0")
    file = io.BytesIO(b"beforeTABLE")
    file.seek(6)
    asked: list[bytes] = []

    def hearing(*answers: bytes) -> Callable[[socket.socket], None]:
        """A server that reads each request to its end before it responds."""

        def act(listening: socket.socket) -> None:
            for answer in answers:
                connection, _ = listening.accept()
                with connection:
                    heard = b""
                    while not heard.endswith(b"0\r\n\r\n"):
                        heard += connection.recv(2**16)
                    asked.append(heard)
                    connection.sendall(answer)

        return act

    with acting(hearing(b"", full, scored)) as url, Client(url) as client, client.score(file, kind="csv") as answer:
        assert answer.read() == b"probability\n0.5\n"
    assert all(request.endswith(b"\r\n\r\n5\r\nTABLE\r\n0\r\n\r\n") for request in asked)
    assert len(asked) == 3
    with acting(hearing(full)) as url, Client(url) as client, pytest.raises(Unavailable):
        client.score(iter([b"TABLE"]), kind="csv")
    with answering(scored[:-5]) as url, Client(url) as client, pytest.raises(Unavailable, match="was cut off"):
        client.score(b"TABLE", kind="csv").read()


def test_an_error_while_reading_the_table_is_raised_unchanged(client: Client, tmp_path: Path) -> None:

    def pieces() -> Iterator[bytes]:
        yield HEAD.encode()
        raise LookupError("the query failed")

    with pytest.raises(LookupError, match="the query failed"), client.score(pieces(), kind="csv") as answer:
        answer.read()
    with pytest.raises(FileNotFoundError):
        client.score(tmp_path / "absent.csv")
    for kind, to in ((None, None), ("xlsx", None), ("csv.bz2", None), ("csv", "xlsx"), ("csv", "csv.gz")):
        with pytest.raises(ValueError, match=r"`(kind|to)`"):
            client.score(b"", kind=kind, to=to)


def test_a_table_goes_through_asyncio(port: int) -> None:
    """Read as a whole or piece by piece."""

    async def work() -> None:
        async with AsyncClient(f"http://127.0.0.1:{port}") as client:
            text = (HEAD + ROW * 20_000).encode()
            async with client.score(text, kind="csv") as answer:
                assert (await answer.read()).count(b"\n") == 20_001
                assert answer.model_version
            lines = 0
            async with client.score(text, kind="csv", to="ndjson", on_error="report") as answer:
                async for piece in answer:
                    lines += piece.count(b"\n")
            assert lines == 20_001

    asyncio.run(work())


def test_the_formats_of_the_client_are_those_of_the_service() -> None:
    """The client repeats them, because it must not import the readers."""
    from service.client.tables import COMPRESSIONS, TYPES
    from service.tables import formats

    assert {suffix[1:]: format_.media_type for format_ in formats.FORMATS for suffix in format_.suffixes} == TYPES
    assert {f".{name}": compression for name, compression in COMPRESSIONS.items()} == formats.COMPRESSIONS


def test_a_table_is_retried_while_the_service_is_full() -> None:
    """It is scored when another table is done."""
    with serving("--max-streams", "1", "--log-level", "error") as (port, _):
        url = f"http://127.0.0.1:{port}"
        with Client(url, deadline=120) as client:
            waiting = client.score(
                iter([(HEAD + ROW).encode(), (ROW * 100_000).encode()]), kind="csv", on_error="report"
            )
            with closing(waiting), ThreadPoolExecutor(1) as threads:
                waiting.read1(10)
                later = threads.submit(lambda: client.score((HEAD + ROW).encode(), kind="csv").read())
                waiting.read()
                assert later.result().count(b"\n") == 2
