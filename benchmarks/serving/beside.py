"""Latency of a probe and of single records while large batches run.

Probes are sent at fixed times, one every 10 ms on each connection, and a latency counts from when its request was
due. (A client that waits for each response would send few requests while the server is blocked, and miss the delay.)
"""

import http.client
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.load import Load, finish, wrk
from benchmarks.serving.patients import Bodies, batch, line
from benchmarks.serving.process import CLIENT_CORE, Failed, Running, core

ROWS, EVERY = 10_000, 0.010
LARGE = Load("large batches", 4, ROWS)
PROBES = {"GET /health/live": 1, "POST /predict": 2}  # connections


def sender(port: int, probe: str, body: bytes) -> Callable[[], None]:
    """Send one request over a persistent connection. Raises Failed unless the response is 200."""
    method, path = probe.split()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Content-Type": "application/json"} if method == "POST" else {}

    def send() -> None:
        try:
            connection.request(method, path, body if method == "POST" else None, headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"{probe} was not answered while batches ran: {error}") from None
        if answer.status != 200:
            raise Failed(f"{probe} was answered {answer.status} while batches ran")

    return send


def clocked(send: Callable[[], None], seconds: float) -> list[float]:
    """Latency of each request in ms, from when it was due."""
    waits, due = [], time.perf_counter()
    end = due + seconds
    while due < end:
        time.sleep(max(0.0, due - time.perf_counter()))
        send()
        waits.append((time.perf_counter() - due) * 1e3)
        due += EVERY
    return waits


def probed(running: Running, body: bytes, seconds: float) -> dict[str, list[float]]:
    """Latencies of each probe in ms, over all connections."""
    with core(CLIENT_CORE), ThreadPoolExecutor() as pool:
        each = {
            probe: [pool.submit(clocked, sender(running.port, probe, body), seconds) for _ in range(connections)]
            for probe, connections in PROBES.items()
        }
        return {probe: [wait for one in found for wait in one.result()] for probe, found in each.items()}


def beside(running: Running, bodies: Bodies, work: Path, seconds: int, valid: bool) -> dict[str, Any]:
    """Percentiles in ms of each probe while batches of 10,000 records run, and the batches' rows/s. Raises Failed."""
    many = batch(bodies.singles, ROWS, 9)
    case = many if valid else [patient | {"sex": 7} for patient in many]
    file = work / f"large-{'valid' if valid else 'invalid'}.jsonl"
    file.write_bytes(line(running.server, case) + b"\n")
    body = line(running.server, bodies.singles[0])
    with wrk(running.url(running.server.batch), file, LARGE, seconds + 1) as load:
        time.sleep(0.5)  # until the batches run
        waits = probed(running, body, seconds)
        figures = finish(load, seconds + 1)
    if figures.broken or figures.refused != (0 if valid else figures.requests):
        raise Failed(
            f"batches of {ROWS:,} records: {figures.refused} of {figures.requests} refused, {figures.broken} lost"
        )
    probes = {}
    for probe, values in waits.items():
        p50, p99, worst = np.percentile(values, [50, 99, 100]).tolist()
        probes[probe] = {"p50": p50, "p99": p99, "max": worst, "count": len(values)}
    return {"rows/s": ROWS * figures.requests / figures.seconds, "probes": probes}
