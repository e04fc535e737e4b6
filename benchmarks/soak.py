"""The service for long at 80 % of its limit, and briefly far above it: `python -m benchmarks.soak [--write]`.

The limit is what 64 connections get that ask again as soon as they are answered. One core serves, the other one loads.
The soak comes by the clock (benchmarks/serving/paced.lua). Above the limit there is 3 times the rate by the clock, and
as many connections as make the service send requests away; and the same through the proxy, which is where the excess
is sent away in a deployment. Goodput counts answers of 200 alone.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.proxy import proxied
from benchmarks.results import put
from benchmarks.serving.load import SCRIPT, Figures, Load, finish, wrk
from benchmarks.serving.patients import Bodies, line
from benchmarks.serving.process import CLIENT_CORE, SERVER_CORE, Running, core
from benchmarks.serving.servers import OURS, ROOT, SERVERS
from patient.artefact import FILE, versions
from tests.faults.machine import descriptors, memory

MODELS = ROOT / "models/heart_disease"
BEGIN, END = "<!-- soak: written by make soak -->", "<!-- soak ends -->"
PACED = SCRIPT.with_name("paced.lua")
SHARE, ABOVE = 0.8, 3
MANY, CLOCKED, BEHIND = (192, 1024, 3072, 8192), (256, 3072), (768, 1024)  # connections
BUSY = 5
PROXIED = f"""The same through the proxy of docker-compose.yml, over TLS. It shares a core with the client, which is
not enough for 3 times what a whole core serves; so {BUSY} busy loops take their shares of the service's core here.
Two of three answers are 503s, and the median is theirs:"""


@dataclass(frozen=True, slots=True)
class Slice:
    """What a minute came to, and what the process was at its end."""

    figures: Figures
    memory: float  # MiB
    descriptors: int
    cpu: float  # seconds of processor time of the server, for each second


def paced(url: str, bodies: Path, rate: float, connections: int, seconds: int) -> Figures:
    """wrk by the clock; `late` requests were held back by more than 100 ms."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(PACED)]
    env = os.environ | {"BODIES": str(bodies), "CONNECTIONS": str(connections), "RATE": str(rate)}
    with core(CLIENT_CORE):
        process = subprocess.Popen(
            [*command, url], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    return finish(process, seconds)


def closed(url: str, bodies: Path, connections: int, seconds: int) -> Figures:
    """So many connections that ask again at once."""
    load = Load("", connections)
    seconds += math.ceil(load.delay / 1e3)
    return finish(wrk(url, bodies, load, seconds), seconds)


def good(figures: Figures) -> float:
    """Answers of 200 a second."""
    return (figures.requests - figures.refused) / figures.seconds


def minute(running: Running, bodies: Path, rate: float, seconds: int) -> Slice:
    """A slice of the soak."""
    before = running.cpu()
    figures = paced(running.url("/predict"), bodies, rate, 64, seconds)
    process = running.process.pid
    used = (running.cpu() - before) / seconds
    return Slice(figures, memory(process, "VmRSS"), descriptors(process), used)


def soak(running: Running, bodies: Path, limit: float, minutes: int, seconds: int) -> str:
    """A row a minute, as Markdown, and what they come to."""
    running.settle()
    slices = [minute(running, bodies, SHARE * limit, seconds) for _ in range(minutes)]
    lines = [
        "| slice | req/s | p50 ms | p99 ms | errors | MiB | descriptors | CPU |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for number, of in enumerate(slices, 1):
        f = of.figures
        measured = f"{f.requests / f.seconds:,.0f} | {f.p50:.2f} | {f.p99:.2f} | {f.errors}"
        lines.append(f"| {number} | {measured} | {of.memory:.0f} | {of.descriptors} | {of.cpu:.0%} |")
    first, last = slices[0], slices[-1]
    said = f"{sum(of.figures.requests for of in slices):,} requests, {sum(of.figures.errors for of in slices)} errors; "
    said += f"p99 of the last slice {last.figures.p99 / first.figures.p99:.2f} of the first's; "
    said += f"memory {last.memory - first.memory:+.1f} MiB, descriptors {last.descriptors - first.descriptors:+d}."
    return "\n".join([*lines, "", said])


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many processes that want the server's core."""
    with core(SERVER_CORE):
        loop = [
            sys.executable,
            "-c",
            "while True: pass",
        ]  # in sessions of their own, among which Linux shares out a core
        spinning = [subprocess.Popen(loop, start_new_session=True) for _ in range(loops)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def above(url: str, bodies: Path, seconds: int, closing: tuple[int, ...], clocked: tuple[int, ...]) -> str:
    """Goodput, each beside the limit as it was just before: of so many in a closed loop, then ABOVE times the limit."""
    lines = ["| load | 200s a second | of the limit | 503s a second | p50 ms | p99 ms | lost | held back |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|---:|")

    def row(name: str, figures: Figures, limit: float) -> None:
        away = figures.refused / figures.seconds
        shares = f"{good(figures):,.0f} | **{good(figures) / limit:.2f}** | {away:,.0f}"
        held = f"{figures.late / max(1, figures.requests):.0%}" if figures.late else "-"
        lines.append(f"| {name} | {shares} | {figures.p50:.1f} | {figures.p99:.1f} | {figures.broken} | {held} |")

    for connections in closing:
        limit = good(closed(url, bodies, 64, seconds))
        row(f"{connections:,} connections", closed(url, bodies, connections, seconds), limit)
    for connections in clocked:
        limit = good(closed(url, bodies, 64, seconds))
        figures = paced(url, bodies, ABOVE * limit, connections, seconds)
        row(f"{ABOVE} times the limit by the clock, {connections:,} connections", figures, limit)
    return "\n".join(lines)


def main() -> None:
    """Print the section, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=10, help="of the soak")
    parser.add_argument("--seconds", type=int, default=60, help="of a slice")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    os.sched_setaffinity(0, {CLIENT_CORE})
    ours = next(server for server in SERVERS if server.name == OURS)
    with tempfile.TemporaryDirectory(prefix="soak") as name:
        work = Path(name)
        bodies = Bodies(work, 1000)
        running = Running(ours, work, MODELS / str(versions(MODELS)[-1]) / FILE, line(ours, bodies.singles[0]))
        try:
            file, brief = bodies.file(ours, batches=False), max(2, min(10, asked.seconds))
            url = running.url("/predict")
            closed(url, file, 64, 2)  # warm
            limit = good(closed(url, file, 64, brief))
            said = (
                f"The limit: {limit:,.0f} requests a second. {asked.slices} slices of {asked.seconds} s at 80 % of it:"
            )
            text = f"{said}\n\n{soak(running, file, limit, asked.slices, asked.seconds)}\n\n"
            text += f"Above the limit, slices of {brief} s:\n\n{above(url, file, brief, MANY, CLOCKED)}"
            if shutil.which("haproxy"):
                with proxied(running, work) as address, busy(BUSY):
                    shed = above(f"{address}/predict", file, 2 * brief, (), BEHIND)
                text += f"\n\n{PROXIED}\n\n{shed}"
        finally:
            running.stop()
    sys.stdout.write(text + "\n")
    if asked.write:
        put(BEGIN, END, f"## Soak and overload\n\n`make soak` repeats it.\n\n{text}")


if __name__ == "__main__":
    main()
