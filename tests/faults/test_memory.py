"""Bodies that no memory holds, on a process that may not have much."""

import contextlib
import http.client
import json
import resource
import socket
import struct
from collections.abc import Iterator

import pytest

from patient.record import EXAMPLE
from tests.conftest import Outcome
from tests.e2e.serving import get, serving
from tests.faults.machine import memory

GROWN = 64  # MiB that a body beyond every limit may take
SENT = 2**28  # bytes that are sent of it, if they are taken
PIECE = 2**20
TYPES: tuple[str, ...] = ("application/json", "application/x-ndjson", "text/csv", "application/vnd.apache.arrow.stream")
TYPES += ("application/vnd.apache.parquet", "multipart/form-data; boundary=x")


def pieces(kind: str) -> Iterator[bytes]:
    """A body without an end, in which nothing is wrong for as long as can be."""
    if kind == "text/csv":
        yield (",".join(EXAMPLE) + "\n").encode()
    if kind.endswith("arrow.stream"):
        yield struct.pack("<II", 0xFFFFFFFF, 2**31 - 1)
    if kind.startswith("multipart"):
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
    while True:
        yield b"1" * PIECE  # a line, a cell, a string that does not end


def status(port: int, path: str, kind: str, announced: int | None) -> int:
    """Of a body beyond all limits, announced with its length or in chunks; 0 where it was broken off."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        length = f"Content-Length: {announced}" if announced else "Transfer-Encoding: chunked"
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{length}\r\n\r\n"
        connection.sendall(head.encode())
        sent = 0
        connection.settimeout(5)
        with contextlib.suppress(OSError):
            for piece in pieces(kind):
                connection.sendall(piece if announced else b"%x\r\n%s\r\n" % (len(piece), piece))
                sent += len(piece)
                if sent >= SENT:
                    break
                connection.setblocking(False)
                try:
                    if connection.recv(1, socket.MSG_PEEK):
                        break
                except BlockingIOError:
                    pass
                finally:
                    connection.settimeout(5)
        response = http.client.HTTPResponse(connection)
        try:
            response.begin()
        except (OSError, http.client.HTTPException):
            return 0
        return response.status


@pytest.mark.parametrize("announced", [10**12, None], ids=["announced", "in chunks"])
def test_bodies_that_no_memory_holds_are_refused_while_they_come(announced: int | None, outcome: Outcome) -> None:
    """413, or 400 where what has come cannot be a table; memory hardly grows, and others are answered."""
    with serving("--max-table", str(2**27), "--max-spool", str(2**26)) as (port, server):
        get(port, "/health/ready")
        status(port, "/predict/batch", "application/vnd.apache.arrow.stream", None)  # loads pyarrow
        before, found = memory(server), {}
        resource.prlimit(server, resource.RLIMIT_AS, (room := _address_space(server) + 600 * 2**20, room))
        for path, kind in (("/predict", TYPES[0]), *(("/predict/batch", kind) for kind in TYPES)):
            found[f"{path} {kind}"] = status(port, path, kind, announced)
            assert json.loads(get(port, "/health/ready"))["status"] == "ready"
        grown = memory(server) - before
        assert set(found.values()) <= {400, 413, 422}, found
        assert grown < GROWN, found
        outcome(f"{sorted(found.values())}, peak {grown:+.0f} MiB")


def _address_space(process: int) -> int:
    return int(memory(process, "VmSize") * 2**20)
