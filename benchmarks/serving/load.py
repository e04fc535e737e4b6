"""The loads, and parsing of wrk's results."""

import json
import math
import os
import resource
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.process import CLIENT_CORE, Failed, core

SCRIPT = Path(__file__).with_name("wrk.lua")
ANSWERS, LONGEST = 4, 6  # on each connection of a slice; seconds


@dataclass(frozen=True, slots=True)
class Load:
    """Keep-alive connections that send the next request as soon as a response arrives."""

    name: str
    connections: int
    rows: int = 1  # records in a request

    @property
    def batch(self) -> bool:
        """Whether a request holds many records."""
        return self.rows > 1

    @property
    def delay(self) -> int:
        """Milliseconds that each connection waits before its first request: see wrk.lua."""
        return 100 + self.connections

    def seconds(self, least: int, pace: float) -> int:
        """How long a slice must be for a server that answers `pace` requests a second.

        Long enough for a few responses on every connection; otherwise requests in progress at its end would distort
        the rate, because a slow server works on all connections before it answers any.
        """
        needed = self.delay / 1e3 + ANSWERS * self.connections / pace
        return max(least, min(LONGEST, math.ceil(needed)))


SINGLES = tuple(Load(f"{n} connection{'s' * (n > 1)}", n) for n in (1, 16, 64, 256))
BATCH = Load("batches of 1,000, 4 connections", 4, rows=1000)
LOADS = (*SINGLES, BATCH)
MAIN = SINGLES[2]


@dataclass(frozen=True, slots=True)
class Figures:
    """Results of one slice of a load: `seconds` of requests; latencies in milliseconds, measured by the client."""

    requests: int
    seconds: float
    p50: float
    p99: float
    p999: float
    refused: int = 0  # answers other than 2xx or 3xx
    broken: int = 0  # lost connections and timeouts
    client: float = 0  # the part of its core that wrk used
    cpu: float = 0  # seconds of processor time of the server
    late: int = 0  # requests that were due by the clock, and held back by more than 100 ms

    @property
    def errors(self) -> int:
        """Requests without a response: a slice with any is invalid."""
        return self.refused + self.broken


def parse(output: str) -> Figures:
    """Parse the output of wrk.lua. Raises Failed if there is none."""
    _, found, line = output.rpartition("FIGURES ")
    if not found:
        raise Failed(f"wrk: {(output.strip().splitlines() or ['no output'])[-1]}")
    return Figures(**json.loads(line))


def wrk(url: str, bodies: Path, load: Load, seconds: int, headers: Mapping[str, str] = {}) -> "subprocess.Popen[str]":
    """Start wrk on its core, with the bodies of a file, one per line."""
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(SCRIPT), url]
    env = os.environ | {"BODIES": str(bodies), "CONNECTIONS": str(load.connections), "DELAY": str(load.delay)}
    command += [f"{name}: {value}" for name, value in headers.items()]
    with core(CLIENT_CORE):
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def used() -> float:
    """Seconds of processor time of the children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def finish(process: "subprocess.Popen[str]", seconds: int) -> Figures:
    """Wait for wrk and return its figures. Raises Failed."""
    try:
        output, _ = process.communicate(timeout=seconds + 30)
    except BaseException as error:
        process.kill()
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Failed("wrk did not end in time") from None
        raise
    return parse(output)
