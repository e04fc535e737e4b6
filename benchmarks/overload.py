"""Goodput (200 responses) above the limit, relative to the rate of 64 connections measured just before.

Both are measured alternately, `ROUNDS` times. Results are medians of ratios: of rates, and of responses per second of
processor time, which is hardly affected by other load on a shared machine.
"""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.serving.load import SCRIPT, Figures, Load, finish, wrk
from benchmarks.serving.process import CLIENT_CORE, SERVER_CORE, Running, core

PACED = SCRIPT.with_name("paced.lua")
ABOVE, ROUNDS = 3, 3


def paced(url: str, bodies: Path, rate: float, connections: int, seconds: int) -> Figures:
    """Run wrk at a fixed rate; `late` requests were delayed by more than 100 ms."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(PACED), url]
    env = os.environ | {"BODIES": str(bodies), "CONNECTIONS": str(connections), "RATE": str(rate)}
    with core(CLIENT_CORE):
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return finish(process, seconds)


def closed(url: str, bodies: Path, connections: int, seconds: int) -> Figures:
    """Run wrk with `connections` connections in a closed loop."""
    load = Load("", connections)
    seconds += math.ceil(load.delay / 1e3)
    return finish(wrk(url, bodies, load, seconds), seconds)


def good(figures: Figures) -> float:
    """200 responses per second."""
    return (figures.requests - figures.refused) / figures.seconds


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Run `loops` busy processes on the server's core."""
    loop = [sys.executable, "-c", "while True: pass"]
    with core(SERVER_CORE):  # each in its own session: Linux divides a core among sessions
        spinning = [subprocess.Popen(loop, start_new_session=True) for _ in range(loops)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def above(
    running: Running, url: str, bodies: Path, seconds: int, closing: tuple[int, ...], clocked: tuple[int, ...]
) -> str:
    """Connections in a closed loop, and ABOVE times the limit at a fixed rate, as Markdown."""
    lines = [
        "| load | 200s a second | of the limit | by processor time | 503s a second | p50 ms | p99 ms | lost |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]

    def unpaced(n: int) -> Callable[[float], Figures]:
        return lambda _: closed(url, bodies, n, seconds)

    def clock(n: int) -> Callable[[float], Figures]:
        several = seconds + math.ceil(n / 1e3)  # requests start when all are connected
        return lambda limit: paced(url, bodies, ABOVE * limit, n, several)

    def measured(load: Callable[[float], Figures], limit: float = 0) -> tuple[Figures, float]:
        """Figures, and 200 responses per second of the server's processor time."""
        before = running.cpu()
        figures = load(limit)
        return figures, (figures.requests - figures.refused) / (running.cpu() - before)

    def row(name: str, load: Callable[[float], Figures]) -> str:
        found, rates, costs = [], [], []
        for _ in range(ROUNDS):
            limit, usual = measured(unpaced(64))
            figures, cost = measured(load, good(limit))
            found.append(figures)
            rates.append(good(figures) / good(limit))
            costs.append(cost / usual)
        shares = f"**{median(rates):.2f}** | {median(costs):.2f}"
        away = median(f.refused / f.seconds for f in found)
        waits = f"{median(f.p50 for f in found):.1f} | {median(f.p99 for f in found):.1f}"
        goods, lost = median(map(good, found)), sum(f.broken for f in found)
        return f"| {name} | {goods:,.0f} | {shares} | {away:,.0f} | {waits} | {lost} |"

    lines += [row(f"{n:,} connections", unpaced(n)) for n in closing]
    lines += [row(f"{ABOVE} times the limit by the clock, {n:,} connections", clock(n)) for n in clocked]
    return "\n".join(lines)
