"""The cost of model reloads for requests: the same load alternately without and with reloads.

Usage: python -m benchmarks.reloads [--reloads N] [--write]

The pin alternates between two versions, with SIGHUP each time, N times (100) while wrk sends on 16 connections;
with one process, and with two workers. Needs two cores and wrk. `--write` puts the table into benchmarks/RESULTS.md.
"""

import argparse
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from benchmarks.results import put
from benchmarks.serving.load import SINGLES, Figures, finish, wrk
from benchmarks.serving.patients import Bodies, line
from benchmarks.serving.process import Failed, Running
from benchmarks.serving.servers import OURS, ROOT, SERVERS, TWO
from patient.artefact import FILE, PIN
from trainer.atomic_write import atomic_write

BEGIN, END = "<!-- make bench-reloads writes from here -->", "<!-- make bench-reloads writes to here -->"
LOAD, SECONDS, PAUSE = SINGLES[1], 5, 0.1  # between two reloads


def loaded(server: Running) -> int:
    """Number of reloads in all processes so far."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return int(re.findall(r'heart_reloads_total\{outcome="loaded"\} (\d+)', text)[0])


def reload(server: Running, models: Path, version: int, workers: int) -> float:
    """Switch to a version; returns the seconds until every process serves it. Raises Failed."""
    wanted, begun = loaded(server) + workers, time.perf_counter()
    with atomic_write(models / PIN) as hidden:
        hidden.write_text(str(version))
    os.kill(server.process.pid, signal.SIGHUP)
    while loaded(server) < wanted:
        if time.perf_counter() - begun > 30:
            raise Failed(f"version {version} was not loaded: {server.last_words()}")
        time.sleep(0.02)
    return time.perf_counter() - begun


def measure(name: str, workers: int, work: Path, reloads: int) -> str:
    """One row of the table: without and with reloads."""
    server = next(server for server in SERVERS if server.name == name)
    models, bodies = work / name.replace(" ", "-"), Bodies(work, 1)
    for version in ("1", "2"):
        shutil.copytree(ROOT / "models/heart_disease" / version, models / version)
    running = Running(server, work, models / "1" / FILE, line(server, bodies.singles[0]))
    slices: tuple[list[Figures], list[Figures]] = [], []
    took: list[float] = []
    try:
        while len(took) < reloads:
            for changing, figures in enumerate(slices):
                asking = wrk(running.url(server.single), bodies.file(server, False), LOAD, SECONDS)
                until = time.perf_counter() + SECONDS
                while changing and len(took) < reloads and time.perf_counter() < until:
                    took.append(reload(running, models, 1 + len(took) % 2, workers))
                    time.sleep(PAUSE)
                figures.append(finish(asking, SECONDS))
        peak = running.memory()
    finally:
        running.stop()
    rate = median(b.requests / b.seconds * a.seconds / a.requests for a, b in zip(*slices, strict=True))
    slow = " | ".join(f"{median(f.p99 for f in of):.1f} / {max(f.p999 for f in of):.0f}" for of in slices)
    asked, failed = sum(f.requests for f in slices[1]), sum(f.errors for f in slices[1])
    return f"| {name} | {len(took)} | {asked:,} | {failed} | {rate:.2f} | {slow} | {median(took):.2f} | {peak:.0f} |"


def main() -> None:
    """Print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--write", action="store_true")
    flags = parser.parse_args()
    lines = [
        "| | reloads | requests meanwhile | failed | rate, ratio | p99 / p99.9 in ms, without | with "
        "| s a reload | peak MiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as work:
        lines += [measure(name, workers, Path(work), flags.reloads) for workers, name in ((1, OURS), (2, TWO))]
    text = "\n".join(lines)
    sys.stdout.write(text + "\n")
    if flags.write:
        put(BEGIN, END, text)


if __name__ == "__main__":
    main()
