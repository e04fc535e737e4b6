"""Tables that unpack to far more or never end cost one worker its limits, and others nothing."""

import contextlib
import gzip
import io
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from patient.record import EXAMPLE, FIELDS
from tests.e2e.serving import serving
from tests.faults.machine import until

MIB = 2**20
PART = 64 * MIB  # --max-part
ALLOWED_MIB = PART // MIB + 150  # that all processes together may grow by
ARROW, PARQUET, CSV, NDJSON = (
    "application/vnd.apache.arrow.stream",
    "application/vnd.apache.parquet",
    "text/csv",
    "application/x-ndjson",
)
HEADER = ",".join(FIELDS)
ROW = ",".join(str(EXAMPLE[name]) for name in FIELDS)
ROWS = 32_768
SECONDS = 2  # in which an honest table, or a single record, is answered


def family(process: int) -> list[int]:
    """A process and its descendants."""
    found = subprocess.run(["ps", "--ppid", str(process), "-o", "pid="], capture_output=True, text=True, check=False)
    return [process, *(member for child in found.stdout.split() for member in family(int(child)))]


def memory(process: int) -> float:
    """MiB of a process and its descendants, shared pages counted once."""
    total = 0
    for member in family(process):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


@dataclass
class Target:
    """A running service."""

    port: int
    process: int
    base: float = 0  # MiB that it takes at rest
    peak: float = 0
    is_watching: bool = True
    slowest: float = 0  # seconds that a single record took
    failures: list[int] = field(default_factory=list)

    def post(self, path: str, body: bytes, kind: str, **headers: str) -> tuple[int, Any]:
        with contextlib.closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("POST", path, body, {"Content-Type": kind, **headers})
            response = connection.getresponse()
            return response.status, response.read()

    def watch(self) -> None:
        """Measure memory, and ask for single records, until told to stop."""
        record = json.dumps(EXAMPLE).encode()
        while self.is_watching:
            began = time.monotonic()
            status, _ = self.post("/predict", record, "application/json")
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.failures += [status] * (status != 200)
            self.peak = max(self.peak, memory(self.process))


@contextlib.contextmanager
def attacked(*flags: str) -> Iterator[Target]:
    """A service that has read one table, and is watched in the context."""
    with serving("--max-part", str(PART), "--no-access-log", *flags) as (port, process):
        target = Target(port, process)
        assert target.post("/predict/batch", f"{HEADER}\n{ROW}\n".encode(), CSV)[0] == 200
        target.base = memory(process)
        watch = threading.Thread(target=target.watch)
        watch.start()
        try:
            yield target
        finally:
            target.is_watching = False
            watch.join()
        assert not target.failures
        assert target.slowest < SECONDS
        assert target.peak - target.base < ALLOWED_MIB


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with attacked() as target:
        yield target


def table(**columns: pa.Array) -> pa.Table:
    return pa.table({name: pa.array([EXAMPLE[name]] * ROWS) for name in FIELDS} | columns)


def arrow(content: pa.Table) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, content.schema) as writer:
        writer.write_table(content)
    return file.getvalue()


def parquet(content: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(content, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def long_work() -> bytes:
    """A Parquet file of 60 million equal rows, which takes some ten seconds to score."""
    rows = pa.table({name: pa.array(np.full(1_000_000, EXAMPLE[name], np.float32)) for name in FIELDS})
    file = io.BytesIO()
    with pq.ParquetWriter(file, rows.schema) as writer:
        for _ in range(60):
            writer.write_table(rows)
    return file.getvalue()


LONG = pa.DictionaryArray.from_arrays(pa.array(np.zeros(ROWS, np.int8)), pa.array(["x" * 100_000]))
MANY = ",".join(f"c{i}" for i in range(180_000))


@pytest.mark.parametrize(
    ("query", "body", "kind", "headers"),
    [
        ("", arrow(table(sex=LONG)), ARROW, {}),
        ("", parquet(table(sex=LONG)), PARQUET, {}),
        ("?keep=note", parquet(table(note=LONG)), PARQUET, {}),
        ("?keep=*&on_error=report", gzip.compress(f"{HEADER},{MANY}\n".encode()), CSV, {"Content-Encoding": "gzip"}),
        ("", gzip.compress(b"\0" * 200 * MIB), NDJSON, {"Content-Encoding": "gzip"}),
        ("", gzip.compress(f'{HEADER}\n"'.encode() + b"x" * 50 * MIB), CSV, {"Content-Encoding": "gzip"}),
    ],
    ids=["arrow-dictionary", "parquet-dictionary", "kept-dictionary", "columns", "zeros", "quote"],
)
def test_what_unpacks_to_far_more_costs_one_worker_its_limits(
    target: Target, query: str, body: bytes, kind: str, headers: dict[str, str]
) -> None:
    """It is refused while it is read, or kept as it was sent."""
    status, content = target.post(f"/predict/batch{query}", body, kind, **headers)
    assert status in (400, 413, 422) or "keep=note" in query, content[:300]
    assert target.post("/predict/batch", f"{HEADER}\n{ROW}\n".encode(), CSV)[0] == 200


def open_request(target: Target, kind: str, *pieces: bytes) -> socket.socket:
    """A connection with the head of a chunked request, and pieces of its body."""
    connection = socket.create_connection(("127.0.0.1", target.port), timeout=30)
    head = f"POST /predict/batch HTTP/1.1\r\nHost: t\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces))
    return connection


def test_clients_without_a_body_keep_no_table_out(target: Target) -> None:
    """Far more of them than there are places."""
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(open_request(target, CSV))
        began = time.monotonic()
        assert target.post("/predict/batch", f"{HEADER}\n{ROW}\n".encode(), CSV)[0] == 200
        assert time.monotonic() - began < SECONDS


def test_slow_clients_make_way() -> None:
    """Those that have begun a table and then send next to nothing, once their places are asked for."""
    with attacked("--max-streams", "2") as target, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(open_request(target, CSV, f"{HEADER}\n".encode())) for _ in range(2)]
        time.sleep(5.5)
        began = time.monotonic()
        assert target.post("/predict/batch", f"{HEADER}\n{ROW}\n".encode(), CSV)[0] == 200
        assert time.monotonic() - began < SECONDS
        assert all(connection.recv(12) == b"HTTP/1.1 408" for connection in slow)


def test_work_ends_with_its_client(target: Target, long_work: bytes) -> None:
    """Even if the worker has all of the body, and reads and writes nothing for a long time."""
    with open_request(target, PARQUET, long_work, b""):
        until(lambda: busy(target) == 1)
    until(lambda: busy(target) == 0, SECONDS)


def test_work_ends_at_its_deadline(long_work: bytes) -> None:
    with attacked("--max-seconds", "3") as target:
        began = time.monotonic()
        assert target.post("/predict/batch", long_work, PARQUET)[0] == 408
        assert time.monotonic() - began < 3 + SECONDS


def test_work_ends_with_the_service(long_work: bytes) -> None:
    """SIGTERM waits for a table as long as it promises, and no process is left."""
    with contextlib.ExitStack() as stack:
        with serving("--grace", "1", "--no-access-log") as (port, process):
            target = Target(port, process)
            stack.enter_context(open_request(target, PARQUET, long_work, b""))
            until(lambda: len(family(process)) == 3)  # with the template and a worker
            members = family(process)
            began = time.monotonic()
        assert time.monotonic() - began < 3 + SECONDS
    until(lambda: not any(Path(f"/proc/{member}").exists() for member in members), SECONDS)


def busy(target: Target) -> int:
    """How many tables are being scored."""
    with contextlib.closing(HTTPConnection("127.0.0.1", target.port, timeout=30)) as connection:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    return next(int(float(line.split()[1])) for line in lines if line.startswith("heart_streams"))
