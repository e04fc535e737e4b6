"""Tables that unpack to far more or never end cost one worker its limits, and others nothing."""

import contextlib
import gzip
import io
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from patient.record import EXAMPLE, FIELDS
from tests.conftest import LONG, Outcome
from tests.faults.machine import until
from tests.hostile.machine import Bystander, serving_in_group

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
DRAIN, GRACE = 1, 1  # seconds
TIMES = 100 if LONG else 1  # that an attack is repeated
SECONDS = 2  # in which an honest table, or a single record, is answered


def family(process: int) -> list[int]:
    """A process and its descendants."""
    found = [process]
    with contextlib.suppress(OSError):  # it has just ended
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            for child in children.read_text().split():
                found += family(int(child))
    return found


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
    """A running service. base: MiB that it takes at rest"""

    port: int
    process: int
    base: float = 0

    def post(self, path: str, body: bytes, kind: str, **headers: str) -> tuple[int, Any]:
        with contextlib.closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("POST", path, body, {"Content-Type": kind, **headers})
            response = connection.getresponse()
            return response.status, response.read()

    def is_honest_table_answered(self) -> bool:
        return bool(self.post("/predict/batch", f"{HEADER}\n{ROW}\n".encode(), CSV)[0] == 200)


@contextlib.contextmanager
def started(*flags: str) -> Iterator[Target]:
    """A service that has read one table."""
    with serving_in_group("--max-part", str(PART), "--no-access-log", *flags) as (port, process):
        target = Target(port, process)
        assert target.is_honest_table_answered()
        target.base = memory(process)
        yield target


@contextlib.contextmanager
def watched(target: Target, outcome: Outcome) -> Iterator[Target]:
    """Measure the memory of all processes, and ask for single records, while the context lasts."""
    peak, has_ended, beside = [0.0], threading.Event(), Bystander(target.port)

    def watch() -> None:
        while not has_ended.wait(0.02):
            peak.append(memory(target.process))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield target
        assert target.is_honest_table_answered()
    finally:
        has_ended.set()
        thread.join()
        beside.stop()
    grown = max(peak) - target.base
    outcome(f"{grown:+.0f} MiB at the peak; {beside.summary}")
    assert grown < ALLOWED_MIB
    assert max(beside.seconds) < SECONDS


@pytest.fixture(scope="module")
def at_rest() -> Iterator[Target]:
    with started() as target:
        yield target


@pytest.fixture(name="target")
def watched_target(at_rest: Target, outcome: Outcome) -> Iterator[Target]:
    with watched(at_rest, outcome) as target:
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
        ("?on_error=report", arrow(pa.table({name: pa.nulls(10**9) for name in FIELDS})), ARROW, {}),
        ("", gzip.compress(b"") * 100_000, NDJSON, {"Content-Encoding": "gzip"}),
        ("?keep=*&on_error=report", gzip.compress(f"{HEADER},{MANY}\n".encode()), CSV, {"Content-Encoding": "gzip"}),
        ("", gzip.compress(b"\0" * 200 * MIB), NDJSON, {"Content-Encoding": "gzip"}),
        ("", gzip.compress(f'{HEADER}\n"'.encode() + b"x" * 50 * MIB), CSV, {"Content-Encoding": "gzip"}),
    ],
    ids=["arrow-dictionary", "parquet-dictionary", "kept-dictionary", "nulls", "members", "columns", "zeros", "quote"],
)
def test_what_unpacks_to_far_more_costs_one_worker_its_limits(
    target: Target, outcome: Outcome, query: str, body: bytes, kind: str, headers: dict[str, str]
) -> None:
    """It is refused while it is read, or kept as it was sent."""
    for _ in range(TIMES):
        status, content = target.post(f"/predict/batch{query}", body, kind, **headers)
        assert status in (400, 413, 422) or "keep=note" in query, content[:300]
    outcome(f"{TIMES} times {status}")


def open_request(target: Target, kind: str, *pieces: bytes) -> socket.socket:
    """A connection with the head of a chunked request, and pieces of its body."""
    connection = socket.create_connection(("127.0.0.1", target.port), timeout=30)
    head = f"POST /predict/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    connection.sendall(
        f"{head}Transfer-Encoding: chunked\r\n\r\n".encode()
        + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    )
    return connection


def test_clients_without_a_body_keep_no_table_out(target: Target) -> None:
    """Far more of them than there are places; neither while they wait nor when they all leave."""
    for _ in range(5):
        with contextlib.ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(open_request(target, CSV))
            began = time.monotonic()
            assert target.is_honest_table_answered()
            assert time.monotonic() - began < SECONDS
        assert target.is_honest_table_answered()


def test_slow_clients_make_way(outcome: Outcome) -> None:
    """Those that have begun a table and then send next to nothing, once their places are asked for."""
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(started("--max-streams", "2"))
        stack.enter_context(watched(target, outcome))
        slow = [stack.enter_context(open_request(target, CSV, f"{HEADER}\n".encode())) for _ in range(2)]
        time.sleep(5.5)
        began = time.monotonic()
        assert target.is_honest_table_answered()
        assert time.monotonic() - began < SECONDS
        assert all(connection.recv(12) == b"HTTP/1.1 408" for connection in slow)


def test_work_ends_with_its_client(long_work: bytes, target: Target) -> None:
    """Even if the worker has all of the body, and reads and writes nothing for a long time."""
    with open_request(target, PARQUET, long_work, b""):
        until(lambda: busy(target) == 1)
    until(lambda: busy(target) == 0, SECONDS)


def test_a_crash_of_the_decoder_costs_its_table_alone(long_work: bytes, target: Target) -> None:
    """As the signal that a fault in a decoder raises; another table of the same time is answered."""
    idle = set(family(target.process))
    with open_request(target, CSV, f"{HEADER}\n{ROW}\n".encode()) as other:
        until(lambda: busy(target) == 1)
        its_worker = {*family(target.process)} - idle
        with open_request(target, PARQUET, long_work, b"") as crashed:
            until(lambda: busy(target) == 2)
            for worker in {*family(target.process)} - idle - its_worker:
                os.kill(worker, signal.SIGSEGV)
            assert crashed.recv(12) == b"HTTP/1.1 413"
        other.sendall(b"0\r\n\r\n")
        assert other.recv(12) == b"HTTP/1.1 200"


def test_work_ends_at_its_deadline(long_work: bytes, outcome: Outcome) -> None:
    with started("--max-seconds", "3") as at_rest, watched(at_rest, outcome) as target:
        began = time.monotonic()
        assert target.post("/predict/batch", long_work, PARQUET)[0] == 408
        assert time.monotonic() - began < 3 + SECONDS


def test_a_stop_amid_attacks_takes_no_longer_than_it_promises(long_work: bytes, outcome: Outcome) -> None:
    """SIGTERM: records are answered while it drains, tables may end within the grace period, no process is left."""
    statuses: list[int] = []

    def ask_while_it_drains() -> None:
        time.sleep(DRAIN / 2)
        statuses.append(target.post("/predict", json.dumps(EXAMPLE).encode(), "application/json")[0])

    asking = threading.Thread(target=ask_while_it_drains)
    with contextlib.ExitStack() as stack:
        with started("--drain", str(DRAIN), "--grace", str(GRACE)) as target:
            for _ in range(2):
                stack.enter_context(open_request(target, PARQUET, long_work, b""))
            for pieces in ((), (f"{HEADER}\n",), (f'{HEADER}\n"',)):  # a head alone, a slow client, a quote
                for _ in range(3):
                    stack.enter_context(open_request(target, CSV, *(piece.encode() for piece in pieces)))
            until(lambda: busy(target) >= 2)
            members = family(target.process)
            began = time.monotonic()
            asking.start()
        took = time.monotonic() - began
        asking.join()
    outcome(f"exit 0 after {took:.1f} s with `--drain {DRAIN} --grace {GRACE}`")
    assert statuses == [200]
    assert took < DRAIN + GRACE + SECONDS
    until(lambda: not any(Path(f"/proc/{member}").exists() for member in members), SECONDS)


def busy(target: Target) -> int:
    """How many tables are being scored."""
    with contextlib.closing(HTTPConnection("127.0.0.1", target.port, timeout=30)) as connection:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    return next(int(float(line.split()[1])) for line in lines if line.startswith("heart_streams"))
