"""The run: every load in short slices that alternate between all servers, round after round.

The speed of a shared machine changes from minute to minute, for all servers alike, so servers are measured within
seconds of each other and compared within a round. Idle servers are stopped (SIGSTOP): they use no processor time.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.serving.beside import beside
from benchmarks.serving.checks import check, keep_answers
from benchmarks.serving.load import BATCH, LOADS, Figures, Load, finish, used, wrk
from benchmarks.serving.patients import Bodies, line
from benchmarks.serving.process import SERVER_CORE, Failed, Running, core, prepare
from benchmarks.serving.servers import ORJSON, OURS, ROOT, SERVERS, Server

REFERENCE = "orjson.loads alone"
WARM_UP = Load("warm-up", 16)


def say(text: str) -> None:
    """Print progress to stderr."""
    sys.stderr.write(text + "\n")


@dataclass
class Results:
    """All measurements. `slices` has one entry per server, load and round."""

    servers: dict[str, dict[str, Any]] = field(default_factory=dict)
    slices: list[dict[str, Any]] = field(default_factory=list)
    beside: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class Run:
    """`seconds` per slice, `rounds` rounds; peers join in every `sparse`-th; `starts` starts of our own three."""

    def __init__(self, work: Path, model: Path, seconds: int, rounds: int, sparse: int, starts: int) -> None:
        self.work, self.model = work, model
        self.seconds, self.rounds, self.sparse, self.starts = seconds, rounds, sparse, starts
        self.bodies = Bodies(work, BATCH.rows)
        self.alive: list[Running] = []
        self.pace: dict[str, float] = {}  # requests a second of the warm-up
        self.results = Results()

    def start(self, server: Server) -> None:
        """Start, check, warm up and pause a server; a failure is recorded and the server left out."""
        say(f"starting {server.name}")
        body = line(server, self.bodies.singles[0])
        try:
            prepare(server, self.work, self.model)
            cold: list[float] = []
            for _ in range(1 if server.peer else self.starts):
                if cold:
                    self.alive.pop().stop()
                self.alive.append(Running(server, self.work, self.model, body))
                cold.append(self.alive[-1].cold)
            running = self.alive[-1]
            refuses = check(running, self.bodies, self.model)
            keep_answers(running, self.bodies, self.work)
            for load in (BATCH, WARM_UP):
                figures = self.load(running, load, 1)
            self.pace[server.name] = max(1, figures.requests) / figures.seconds
            running.signal(signal.SIGSTOP)
        except (Failed, OSError, ValueError) as error:
            self.drop(server, error)
            return
        self.results.servers[server.name] = {"version": server.version(), "cold": cold, "refuses": refuses}

    def drop(self, server: Server, error: Exception) -> None:
        """Stop a failed server and record the failure in its row."""
        self.results.failures[server.name] = str(error)
        self.results.servers.pop(server.name, None)
        say(f"  {server.name} {error}")
        for running in [running for running in self.alive if running.server is server]:
            self.alive.remove(running)
            running.stop()

    def load(self, running: Running, load: Load, seconds: int) -> Figures:
        """One slice."""
        path = running.server.batch if load.batch else running.server.single
        bodies = self.bodies.file(running.server, load.batch)
        cpu, client = running.cpu(), used()
        figures = finish(wrk(running.url(path), bodies, load, seconds, running.server.headers), seconds)
        cpu, client = running.cpu() - cpu, used() - client
        running.settle()
        return replace(figures, cpu=cpu, client=client / seconds)

    def measure(self) -> None:
        """All rounds, each beginning with another server, then the latencies beside large batches."""
        with parser(self.bodies.file(SERVERS[0], True)) as parse:
            for turn in range(self.rounds):
                say(f"round {turn + 1} of {self.rounds}")
                for load in LOADS:
                    for running in rotated(
                        [r for r in self.alive if turn % self.sparse == 0 or not r.server.peer], turn
                    ):
                        self.slice(running, load, turn)
                    if load is BATCH and parse:
                        self.note(REFERENCE, load, turn, parse(self.seconds))
        for running in self.alive:
            if running.server.name == OURS:
                self.large(running)

    def slice(self, running: Running, load: Load, turn: int) -> None:
        """Resume a server for one slice."""
        try:
            running.signal(signal.SIGCONT)
            running.settle()
            seconds = self.seconds if load.batch else load.seconds(self.seconds, self.pace[running.server.name])
            self.note(running.server.name, load, turn, asdict(self.load(running, load, seconds)))
            running.signal(signal.SIGSTOP)
        except Failed as error:
            self.drop(running.server, error)

    def note(self, name: str, load: Load, turn: int, figures: dict[str, Any]) -> None:
        """Store a slice."""
        self.results.slices.append({"server": name, "load": load.name, "round": turn} | figures)

    def large(self, running: Running) -> None:
        """Our own service under batches of the largest size."""
        say("probes beside batches of 10,000")
        running.signal(signal.SIGCONT)
        for name, valid in (("valid", True), ("all invalid", False)):
            try:
                running.settle()
                self.results.beside[name] = beside(running, self.bodies, self.work, max(5, self.rounds), valid)
            except Failed as error:
                self.results.failures[f"{OURS}, {name} batches"] = str(error)
                say(f"  {error}")

    def stop(self) -> None:
        """Read the peak memory, and stop all servers."""
        for running in self.alive:
            self.results.servers.get(running.server.name, {})["memory"] = running.memory()
        while self.alive:
            self.alive.pop().stop()


def rotated(members: list[Running], turn: int) -> list[Running]:
    """Rotate the order, so that each round begins with another server."""
    first = turn % max(1, len(members))
    return members[first:] + members[:first]


@contextmanager
def parser(bodies: Path) -> Iterator[Any]:
    """Run orjson.loads on the bodies for some seconds on the servers' core; None if it is not installed."""
    if not (ORJSON / "made").exists():
        yield None
        return
    command = [str(ORJSON / "bin/python"), "-m", "benchmarks.serving.parse", str(bodies)]
    with core(SERVER_CORE):
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def parse(seconds: float) -> dict[str, Any]:
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"{seconds}\n")
        process.stdin.flush()
        found: dict[str, Any] = json.loads(process.stdout.readline())
        return found

    try:
        yield parse
    finally:
        process.kill()
        process.communicate()
