"""Run the service at 80 % of its limit for minutes, then far above it: `python -m benchmarks.soak [--write]`.

The limit is the rate of 64 connections in a closed loop: the median of as many short slices as the soak has minutes.
One core runs the service, the other the load; the soak sends at fixed times (benchmarks/serving/paced.lua).
A minute has six slices, and its p99 is their median. On a shared machine the host sometimes takes cores away: a
slice that lost more than QUIET is repeated, up to six times a minute, and counts for all figures but latencies.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.overload import above, busy, closed, good, paced
from benchmarks.proxy import proxied
from benchmarks.results import put
from benchmarks.serving.load import Figures
from benchmarks.serving.patients import Bodies, line
from benchmarks.serving.process import CLIENT_CORE, Running
from benchmarks.serving.servers import OURS, ROOT, SERVERS
from patient.artefact import FILE, versions
from tests.faults.machine import descriptors, memory

MODELS = ROOT / "models/heart_disease"
BEGIN, END = "<!-- soak: written by make soak -->", "<!-- soak ends -->"
SHARE, SLICES, QUIET = 0.8, 6, 0.03
MANY, CLOCKED, BEHIND = (1024, 3072, 8192), (256, 3072), (1024,)  # connections
BUSY = 5
PROXIED = f"""The same through the proxy of docker-compose.yml, over TLS. It shares a core with the client, which is
not enough for 3 times the rate of a whole core, so {BUSY} busy loops take a share of the service's core here.
Two of three responses are 503s, so the median is theirs:"""


@dataclass(frozen=True, slots=True)
class Minute:
    """The figures of a minute's slices, and the state of the process at its end."""

    slices: list[Figures]
    quiet: list[Figures]  # those that lost little time to the host
    memory: float  # MiB
    descriptors: int
    cpu: float  # us of the server's processor time, for each request
    stolen: float  # share of the cores taken by the host

    @property
    def requests(self) -> int:
        return sum(of.requests for of in self.slices)

    @property
    def errors(self) -> int:
        return sum(of.errors for of in self.slices)

    @property
    def p99(self) -> float:
        return median(of.p99 for of in self.quiet or self.slices)

    @property
    def p50(self) -> float:
        return median(of.p50 for of in self.quiet or self.slices)


class Theft:
    """The share of the cores that the host takes, from construction on."""

    def __init__(self) -> None:
        self.before = self._ticks()

    def share(self) -> float:
        """The share so far."""
        ticks = [now - before for now, before in zip(self._ticks(), self.before, strict=True)]
        return ticks[7] / sum(ticks)

    def _ticks(self) -> list[int]:
        return [int(number) for number in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]


def minute(running: Running, bodies: Path, rate: float, seconds: int) -> Minute:
    """Run a minute of the soak; longer if the host took much of it."""
    cpu, theft = running.cpu(), Theft()
    slices, quiet = list[Figures](), list[Figures]()
    while len(quiet) < SLICES and len(slices) < 2 * SLICES:
        of_slice = Theft()
        slices.append(paced(running.url("/predict"), bodies, rate, 64, seconds))
        if of_slice.share() <= QUIET:
            quiet.append(slices[-1])
    time.sleep(1)  # until the load's connections are closed
    process = running.process.pid
    each = (running.cpu() - cpu) / sum(of.requests for of in slices) * 1e6
    return Minute(slices, quiet, memory(process, "VmRSS"), descriptors(process), each, theft.share())


def soak(running: Running, bodies: Path, limit: float, minutes: int, seconds: int) -> str:
    """One row per minute, and a summary, as Markdown."""
    running.settle()
    found = [minute(running, bodies, SHARE * limit, seconds) for _ in range(minutes)]
    lines = [
        "| minute | quiet slices | req/s | p50 ms | p99 ms | errors | us a request | MiB | descriptors | stolen |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for number, of in enumerate(found, 1):
        rate = of.requests / sum(f.seconds for f in of.slices)
        measured = f"{rate:,.0f} | {of.p50:.2f} | {of.p99:.2f} | {of.errors} | {of.cpu:.0f}"
        process = f"{of.memory:.0f} | {of.descriptors} | {of.stolen:.1%}"
        lines.append(f"| {number} | {len(of.quiet)} of {len(of.slices)} | {measured} | {process} |")
    first, last = found[0], found[-1]
    summary = f"{sum(of.requests for of in found):,} requests, {sum(of.errors for of in found)} errors; "
    summary += f"p99 of the last minute {last.p99 / first.p99:.2f} of the first's, "
    summary += f"processor time of a request {last.cpu / first.cpu:.2f}; "
    summary += f"memory {last.memory - first.memory:+.1f} MiB, descriptors {last.descriptors - first.descriptors:+d}."
    return "\n".join([*lines, "", summary])


def main() -> None:
    """Print or write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=10, help="of the soak")
    parser.add_argument("--seconds", type=int, default=10, help="of a slice; six make a minute")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    os.sched_setaffinity(0, {CLIENT_CORE})
    ours = next(server for server in SERVERS if server.name == OURS)
    with tempfile.TemporaryDirectory(prefix="soak") as name:
        work = Path(name)
        bodies = Bodies(work, 1000)
        running = Running(ours, work, MODELS / str(versions(MODELS)[-1]) / FILE, line(ours, bodies.singles[0]))
        try:
            file, brief, url = bodies.file(ours, batches=False), max(2, min(6, asked.seconds)), running.url("/predict")
            closed(url, file, 64, 2)  # warm
            limit = median(good(closed(url, file, 64, 2)) for _ in range(asked.minutes))
            text = f"The limit: {limit:,.0f} requests a second. {asked.minutes} minutes at 80 % of it:\n\n"
            text += soak(running, file, limit, asked.minutes, asked.seconds)
            text += f"\n\nAbove the limit:\n\n{above(running, url, file, brief, MANY, CLOCKED)}"
            if shutil.which("haproxy"):
                with proxied(running, work) as address, busy(BUSY):
                    shed = above(running, f"{address}/predict", file, 2 * brief, (), BEHIND)
                text += f"\n\n{PROXIED}\n\n{shed}"
        finally:
            running.stop()
    sys.stdout.write(text + "\n")
    if asked.write:
        put(BEGIN, END, f"## Soak and overload\n\n`make soak` repeats this.\n\n{text}")


if __name__ == "__main__":
    main()
