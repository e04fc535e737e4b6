"""Many clients at one address leave places to another one: real connections from 127.0.0.2 and 127.0.0.1."""

import asyncio
import contextlib
import json
import socket
from collections import Counter
from http.client import HTTPResponse
from typing import Any

import pytest

from patient.record import EXAMPLE, FIELDS
from tests.e2e.serving import Connection, request, serving
from tests.faults.machine import until

BUSY, QUIET = "127.0.0.2", "127.0.0.1"
TABLE = f"{','.join(FIELDS)}\n{','.join(str(EXAMPLE[name]) for name in FIELDS)}\n".encode()


async def connect(port: int, address: str) -> Connection:
    return Connection(*await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0)))


@pytest.mark.parametrize(
    ("path", "content", "limit"),
    [("/explain", [EXAMPLE] * 4, "--max-explanations"), ("/predict/batch", [EXAMPLE] * 2000, "--max-batches")],
)
def test_forty_clients_at_one_address_leave_a_place_to_another(path: str, content: Any, limit: str) -> None:
    """Its requests are never rejected, one after the other; the forty are served and told why they must wait."""
    message = request(path, content)
    with serving(limit, "4", "--no-access-log") as (port, _):

        async def flood(outcomes: Counter[str], ended: asyncio.Event) -> None:
            connection = await connect(port, BUSY)
            while not ended.is_set():
                connection.writer.write(message)
                status, headers, body = await connection.answer()
                if status == 503:
                    assert headers["retry-after"] == "1"
                    await asyncio.sleep(0.1)
                outcomes[body["detail"].partition(":")[0] if status == 503 else str(status)] += 1
            connection.close()

        async def work() -> tuple[Counter[str], list[int]]:
            outcomes, ended = Counter[str](), asyncio.Event()
            flooding = [asyncio.create_task(flood(outcomes, ended)) for _ in range(40)]
            while not any(cause.startswith("Too many") for cause in outcomes):
                await asyncio.sleep(0.01)
            connection = await connect(port, QUIET)
            statuses = [(await connection.post(path, content[:2]))[0] for _ in range(5)]
            connection.close()
            ended.set()
            await asyncio.gather(*flooding)
            return outcomes, statuses

        outcomes, statuses = asyncio.run(work())
        assert statuses == [200] * 5
        assert outcomes["200"] > 0
        assert any(cause.startswith("This client already has ") for cause in outcomes), outcomes


def open_table(port: int, address: str) -> socket.socket:
    """A table that has begun and goes on."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(address, 0))
    head = b"POST /predict/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked"
    connection.sendall(b"%b\r\n\r\n%x\r\n%b\r\n" % (head, len(TABLE), TABLE))
    return connection


def whole_table(port: int, address: str) -> tuple[int, str]:
    """Status of a table that is sent as a whole, and the cause of an error."""
    with open_table(port, address) as connection:
        connection.sendall(b"0\r\n\r\n")
        response = HTTPResponse(connection)
        response.begin()
        content = response.read()
        return response.status, "" if response.status == 200 else json.loads(content)["detail"]


def test_long_tables_of_one_address_leave_a_place_to_another() -> None:
    with (
        serving("--max-streams", "4", "--min-rate", "0", "--no-access-log") as (port, _),
        contextlib.ExitStack() as all_,
    ):
        tables = [all_.enter_context(open_table(port, BUSY)) for _ in range(4)]
        until(lambda: whole_table(port, BUSY) == (503, "Too many tables at once."))
        assert [whole_table(port, QUIET)[0] for _ in range(5)] == [200] * 5
        tables.pop().close()
        cause = "This client already has 3 tables in progress: at most 2 while other clients send requests."
        until(lambda: whole_table(port, BUSY) == (503, cause))
        assert whole_table(port, QUIET)[0] == 200
        while tables:
            tables.pop().close()
        until(lambda: whole_table(port, BUSY)[0] == 200)
