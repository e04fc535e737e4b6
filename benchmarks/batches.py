"""Measure tables over HTTP: rows per second beside a floor, waiting times of other requests, and memory.

Usage: python -m benchmarks.batches [--rows N] [--rounds N] [--waits S] [--memory N] [--write]

Speed: `--rows` patients (200,000) in one body, `--rounds` times (9), each format and its floor in turn, so that
variations of the machine affect both. The floor is the necessary work: pyarrow reads the same bytes in memory, ONNX
Runtime scores the same rows in chunks of 4,096. Server and floors run on core 0, the client on
core 1. A ratio is the median over the rounds.
Waits: with `--waits S`, S seconds of single records during streams of each format.
Memory: with `--memory N`, tables of 100,000 and of N rows are scored by a new server each, and all results checked.
`--write` writes the results to benchmarks/RESULTS.md.
"""

import argparse
import multiprocessing as mp
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from benchmarks.memory import memory
from benchmarks.results import put
from benchmarks.tables import NAMES, OURS, ROOT, Server, body, patients, serving, small
from benchmarks.waits import waits
from patient.artefact import FILE, versions
from patient.encoding import Floats
from patient.record import FIELDS
from service.model.loading import load
from service.tables.formats import ARROW, CSV, JSON, PARQUET, Format

SMALL = "Arrow, float32 and int8"  # 28 bytes a row; integers and doubles as pandas has them take 104
CASES = {name: format_ for format_, name in NAMES.items()} | {SMALL: ARROW}
BEGIN, END = "<!-- make bench-batches writes from here -->", "<!-- make bench-batches writes to here -->"
TUTORIAL_ROWS = 10_000


def read_with_pyarrow(format_: Format, content: bytes) -> None:
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
    """In its own process: for each case received, send the seconds of its floor, wall clock and CPU."""
    os.sched_setaffinity(0, {0})
    pa.set_cpu_count(1)
    model = load(ROOT / "models/heart_disease", "cpu")
    while name := pipe.recv():
        begun = time.perf_counter(), time.process_time()
        read_with_pyarrow(CASES[name], bodies[name])
        model(rows)
        pipe.send((time.perf_counter() - begun[0], time.process_time() - begun[1]))


@contextmanager
def tutorial() -> Iterator[Server]:
    """Run the tutorial's service with our model."""
    models = ROOT / "models/heart_disease"
    with tempfile.TemporaryDirectory() as folder:
        environment = {"BENCH_WORK": folder, "BENCH_MODEL": str(models / str(versions(models)[-1]) / FILE)}
        cut = [sys.executable, "-m", "benchmarks.peers.tutorial_model"]
        subprocess.run(cut, cwd=ROOT, check=True, env=os.environ | environment)
        with serving("uvicorn", "benchmarks.peers.tutorial:app", **environment) as server:
            yield server


def speed(count: int, rounds: int) -> str:
    """Measure rows per second, as a Markdown table."""
    table = patients(count)
    rows = np.column_stack([table[name].to_numpy().astype(np.float32) for name in FIELDS])
    bodies = {name: body(format_, small(table) if name == SMALL else table) for name, format_ in CASES.items()}
    json_body = body(JSON, table.slice(0, TUTORIAL_ROWS))
    ours: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    floor: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    theirs: list[float] = []
    pipe, other = mp.Pipe()
    process = mp.get_context("spawn").Process(target=floors, args=(other, bodies, rows), daemon=True)
    process.start()
    other.close()  # so that recv fails when the process ends
    with serving(*OURS) as server, tutorial() as peer:
        for _ in range(rounds + 1):
            for name, format_ in CASES.items():
                pipe.send(name)
                floor[name].append(cast(tuple[float, float], pipe.recv()))
                cpu = server.cpu()
                seconds = timed(lambda: server.post(format_, bodies[name]).read())  # noqa: B023
                ours[name].append((seconds, server.cpu() - cpu))
            theirs.append(timed(lambda: peer.post(JSON, json_body).read()))
    pipe.send(None)
    lines = [
        f"| {count:,} rows in one body | MB | floor, rows/s | over HTTP, rows/s | ratio | ratio of CPU seconds "
        "| times the tutorial's JSON |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    slow = TUTORIAL_ROWS / statistics.median(theirs[1:])
    for name in CASES:
        floor_wall, wall = (statistics.median(wall for wall, _ in times[name][1:]) for times in (floor, ours))
        pairs = list(zip(floor[name][1:], ours[name][1:], strict=True))
        walls, cpus = (statistics.median(under[i] / over[i] for under, over in pairs) for i in (0, 1))
        lines.append(
            f"| {name} | {len(bodies[name]) / 1e6:.1f} | {count / floor_wall:,.0f} | {count / wall:,.0f} "
            f"| {walls:.2f} | {cpus:.2f} | {count / wall / slow:.0f} |"
        )
    lines.append(
        f"| JSON, tutorial service, {TUTORIAL_ROWS:,} rows | {len(json_body) / 1e6:.1f} | | {slow:,.0f} | | | 1 |"
    )
    return "\n".join(lines)


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--waits", type=int, default=0)
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    flags = parser.parse_args()
    os.sched_setaffinity(0, {1})
    tables = [speed(flags.rows, flags.rounds)] if flags.rows else []
    tables += [waits(flags.waits, flags.rows)] if flags.waits else []
    tables += [memory([100_000, flags.memory])] if flags.memory else []
    found = "\n\n".join(tables)
    sys.stdout.write(found + "\n")
    if flags.write:
        put(BEGIN, END, found)


if __name__ == "__main__":
    main()
