"""Tables through HTTP: rows a second beside the floor of each format, and memory beside the number of rows.

Usage: python -m benchmarks.batches [--rows N] [--rounds N] [--memory N] [--write]

Speed: `--rows` patients (200,000) in one body, `--rounds` times (9), each format and its floor in turn, so that what
slows the machine slows both; the medians are compared. The floor is what cannot be saved: pyarrow reads the same bytes
in memory, ONNX Runtime alone scores the same rows in chunks of 4,096. Server and floors run on core 0, the client on
core 1.
Memory: with `--memory N`, tables of 100,000 and of N rows go through a new server each, and every answer is checked.
`--write` puts both into benchmarks/RESULTS.md.
"""

import argparse
import io
import json
import multiprocessing as mp
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from patient.artefact import FILE, versions
from patient.encoding import Floats
from patient.record import FIELDS
from service.predictor import load
from service.tables.formats import ARROW, CSV, JSON, NDJSON, PARQUET, Format
from trainer.beside import beside
from trainer.dataset import read

ROOT = Path(__file__).parents[1]
NAMES = {ARROW: "Arrow", PARQUET: "Parquet", CSV: "CSV", NDJSON: "NDJSON"}
RESULTS = ROOT / "benchmarks/RESULTS.md"
BEGIN, END = "<!-- make bench-batches writes from here -->", "<!-- make bench-batches writes to here -->"
TUTORIAL_ROWS = 10_000
BLOCK = 10_000  # rows that a long table repeats


def patients(count: int) -> pa.Table:
    """Real patients, drawn again and again; whole numbers as integers, as an export would have them."""
    data = read(ROOT / "trainer/data/cleveland.csv")
    drawn = np.random.default_rng(0).choice(data.rows.astype(np.float64), count)
    columns = [pa.array(column, from_pandas=True) for column in drawn.round(1).T]
    whole = [name != "oldpeak" for name in FIELDS]
    return pa.table([c.cast(pa.int64()) if w else c for c, w in zip(columns, whole, strict=True)], FIELDS)


def body(format_: Format, table: pa.Table) -> bytes:
    """The table as a client would send it."""
    out = io.BytesIO()
    if format_ is ARROW:
        with pa.ipc.new_stream(out, table.schema) as writer:
            writer.write_table(table, max_chunksize=2**16)
    elif format_ is PARQUET:
        pa.parquet.write_table(table, out)
    elif format_ is CSV:
        pa.csv.write_csv(table, out)
    elif format_ is NDJSON:
        out.write("".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode())
    else:
        out.write(json.dumps(table.to_pylist()).encode())
    return out.getvalue()


def bare(format_: Format, content: bytes) -> None:
    """What pyarrow needs merely to read it."""
    source = pa.BufferReader(content)
    if format_ is ARROW:
        pa.ipc.open_stream(source).read_all()
    elif format_ is PARQUET:
        pa.parquet.read_table(source, use_threads=False)
    elif format_ is CSV:
        pa.csv.read_csv(source, pa.csv.ReadOptions(use_threads=False))
    else:
        pa.json.read_json(source, pa.json.ReadOptions(use_threads=False))


def floors(pipe: Connection, bodies: dict[str, bytes], rows: Floats) -> None:
    """A process of its own: told a format, it says how many seconds its floor took, wall clock and CPU."""
    os.sched_setaffinity(0, {0})
    pa.set_cpu_count(1)
    model = load(ROOT / "models/heart_disease", "cpu")
    kinds = {format_.media_type: format_ for format_ in NAMES}
    while kind := pipe.recv():
        begun = time.perf_counter(), time.process_time()
        bare(kinds[kind], bodies[kind])
        model(rows)
        pipe.send((time.perf_counter() - begun[0], time.process_time() - begun[1]))


class Server:
    """A server of its own on core 0."""

    def __init__(self, *command: str, **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        pinned = ["taskset", "-c", "0", sys.executable, "-m", *command, "--port", str(self.port)]
        null, variables = subprocess.DEVNULL, os.environ | environment
        self.process = subprocess.Popen(pinned, cwd=ROOT, env=variables, stdout=null, stderr=null)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                assert self.process.poll() is None
                time.sleep(0.1)

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        times = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")

    def peak(self) -> float:
        """MiB of memory at most."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

    def post(self, format_: Format, content: bytes | Iterator[bytes], query: str = "") -> HTTPResponse:
        """Send a body, piece by piece while the answer comes."""
        connection = socket.create_connection(("127.0.0.1", self.port))
        head = f"POST /predict/batch{query} HTTP/1.1\r\nHost: x\r\nContent-Type: {format_.media_type}\r\n"
        length = f"Content-Length: {len(content)}" if isinstance(content, bytes) else "Transfer-Encoding: chunked"

        def send() -> None:
            connection.sendall(f"{head}{length}\r\n\r\n".encode())
            if isinstance(content, bytes):
                connection.sendall(content)
                return
            for piece in content:
                connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            connection.sendall(b"0\r\n\r\n")

        threading.Thread(target=send, daemon=True).start()
        response = HTTPResponse(connection, method="POST")
        response.begin()
        if response.status != 200:
            raise RuntimeError(response.read().decode())
        return response

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


@contextmanager
def serving(*command: str, **environment: str) -> Iterator[Server]:
    """A server for as long as the context."""
    server = Server(*command, **environment)
    try:
        yield server
    finally:
        server.close()


OURS = ("service", "--provider", "cpu", "--log-level", "error")


@contextmanager
def tutorial() -> Iterator[Server]:
    """The tutorial's service, with the part of our model that it wants."""
    models = ROOT / "models/heart_disease"
    with tempfile.TemporaryDirectory() as folder:
        environment = {"BENCH_WORK": folder, "BENCH_MODEL": str(models / str(versions(models)[-1]) / FILE)}
        cut = [sys.executable, "-m", "benchmarks.peers.tutorial_model"]
        subprocess.run(cut, cwd=ROOT, check=True, env=os.environ | environment)
        with serving("uvicorn", "benchmarks.peers.tutorial:app", **environment) as server:
            yield server


def speed(count: int, rounds: int) -> str:
    """Rows a second as Markdown."""
    table = patients(count)
    rows = np.column_stack([table[name].to_numpy().astype(np.float32) for name in FIELDS])
    bodies = {format_.media_type: body(format_, table) for format_ in NAMES}
    small = body(JSON, table.slice(0, TUTORIAL_ROWS))
    ours: dict[Format, list[tuple[float, float]]] = {format_: [] for format_ in NAMES}
    floor: dict[Format, list[tuple[float, float]]] = {format_: [] for format_ in NAMES}
    theirs: list[float] = []
    pipe, other = mp.Pipe()
    process = mp.get_context("spawn").Process(target=floors, args=(other, bodies, rows), daemon=True)
    process.start()
    other.close()  # or nobody would notice its end
    with serving(*OURS) as server, tutorial() as peer:
        for _ in range(rounds + 1):
            for format_ in NAMES:
                pipe.send(format_.media_type)
                floor[format_].append(cast(tuple[float, float], pipe.recv()))
                cpu = server.cpu()
                seconds = timed(lambda: server.post(format_, bodies[format_.media_type]).read())  # noqa: B023
                ours[format_].append((seconds, server.cpu() - cpu))
            theirs.append(timed(lambda: peer.post(JSON, small).read()))
    pipe.send(None)
    lines = [
        f"| {count:,} rows in one body | MB | floor, rows/s | over HTTP, rows/s | ratio | ratio of CPU seconds "
        "| times the tutorial's JSON |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    slow = TUTORIAL_ROWS / statistics.median(theirs[1:])
    for format_, name in NAMES.items():
        (bare_wall, bare_cpu), (wall, cpu) = (_medians(times[format_][1:]) for times in (floor, ours))
        lines.append(
            f"| {name} | {len(bodies[format_.media_type]) / 1e6:.1f} | {count / bare_wall:,.0f} | {count / wall:,.0f} "
            f"| {bare_wall / wall:.2f} | {bare_cpu / cpu:.2f} | {count / wall / slow:.0f} |"
        )
    lines.append(f"| JSON, tutorial service, {TUTORIAL_ROWS:,} rows | {len(small) / 1e6:.1f} | | {slow:,.0f} | | | 1 |")
    return "\n".join(lines)


def _medians(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(wall for wall, _ in pairs), statistics.median(cpu for _, cpu in pairs)


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def memory(sizes: list[int]) -> str:
    """Peak memory as Markdown: streamed both ways, and every answer compared with the model's."""
    table = patients(BLOCK)
    rows = np.column_stack([table[name].to_numpy().astype(np.float32) for name in FIELDS])
    expected = load(ROOT / "models/heart_disease", "cpu")(rows)
    lines = [
        "| format | on_error | rows | MB sent | rows/s | peak MiB of the server |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for format_ in (NDJSON, CSV, ARROW):
        for option in ("report", "refuse"):
            for count in sizes:
                with serving(*OURS) as server:
                    sent = [0]
                    begun = time.perf_counter()
                    response = server.post(format_, _long(format_, table, count // BLOCK, sent), f"?on_error={option}")
                    done = _checked(format_, response, expected)
                    seconds = time.perf_counter() - begun
                    assert done == count // BLOCK * BLOCK, done
                    lines.append(
                        f"| {NAMES[format_]} | {option} | {done:,} | {sent[0] / 1e6:,.0f} | {done / seconds:,.0f} "
                        f"| {server.peak():,.0f} |"
                    )
    return "\n".join(lines)


def _long(format_: Format, table: pa.Table, times: int, sent: list[int]) -> Iterator[bytes]:
    """A body of so many blocks that is never held."""
    block = body(format_, table)
    start, end = 0, len(block)
    if format_ is CSV:
        start = block.index(b"\n") + 1
    elif format_ is ARROW:
        start, end = len(body(format_, table.slice(0, 0))) - 8, end - 8  # between the schema and the mark at the end
    for i in range(times):
        piece = block[0 if i == 0 else start : len(block) if i == times - 1 else end]
        sent[0] += len(piece)
        yield piece


def _checked(format_: Format, response: HTTPResponse, expected: Floats) -> int:
    """How many rows came back, all of them right."""
    done = 0
    for found in _probabilities(format_, response):
        wanted = expected[(done + np.arange(len(found))) % len(expected)]
        assert np.abs(found - wanted).max(initial=0) < 1e-6
        done += len(found)
    return done


def _probabilities(format_: Format, response: HTTPResponse) -> Iterator[Any]:
    if format_ is ARROW:
        for batch in pa.ipc.open_stream(response):
            yield batch["probability"].to_numpy()
        return
    names, rest = None, b""
    while data := response.read(2**20):
        lines, _, rest = (rest + data).rpartition(b"\n")
        if format_ is CSV:
            if names is None:
                header, _, lines = lines.partition(b"\n")
                names = header.decode().split(",")
            found = pa.csv.read_csv(io.BytesIO(lines), pa.csv.ReadOptions(column_names=names))["probability"]
        else:
            whole, _, last = lines.rpartition(b"\n")
            if b'"summary"' in last:
                assert json.loads(last)["summary"]["bad"] == 0
                lines = whole
            found = pa.json.read_json(io.BytesIO(lines))["probability"]
        yield found.to_numpy()


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    flags = parser.parse_args()
    os.sched_setaffinity(0, {1})
    tables = [speed(flags.rows, flags.rounds)] if flags.rows else []
    tables += [memory([100_000, flags.memory])] if flags.memory else []
    found = "\n\n".join(tables)
    sys.stdout.write(found + "\n")
    if flags.write:
        before, _, rest = RESULTS.read_text().partition(BEGIN)
        with beside(RESULTS) as hidden:
            hidden.write_text(f"{before}{BEGIN}\n{found}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
