"""Latency of single records while tables stream through the same server.

Records are sent at fixed times, as in benchmarks.serving.beside, on two connections; a latency counts from when its
request was due. Each format streams alone, table after table, and then two at once.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec
import numpy as np
import pyarrow as pa

from benchmarks.serving.beside import clocked, sender
from benchmarks.tables import NAMES, OURS, Server, body, patients, serving
from patient.record import EXAMPLE
from service.tables.formats import ARROW, CSV, NDJSON, PARQUET, Format

CONNECTIONS = 2
MIXES: list[tuple[Format, ...]] = [(), (NDJSON,), (CSV,), (ARROW,), (PARQUET,), (CSV, NDJSON)]


def waits(seconds: int, rows: int) -> str:
    """Latencies of POST /predict beside streams of tables of `rows` rows, as Markdown."""
    lines = ["| streams beside `POST /predict` | p50 ms | p99 ms | worst ms | rows/s |", "|---|---:|---:|---:|---:|"]
    table = patients(rows)
    for mix in MIXES:
        with serving(*OURS) as server, _streaming(server, mix, table) as done, ThreadPoolExecutor() as pool:
            probes = [sender(server.port, "POST /predict", msgspec.json.encode(EXAMPLE)) for _ in range(CONNECTIONS)]
            for probe in probes:
                clocked(probe, 1)
            before = len(done)
            each = [pool.submit(clocked, probe, seconds) for probe in probes]
            found = np.percentile([wait for one in each for wait in one.result()], [50, 99, 100])
            pace = (len(done) - before) * rows / seconds
        name = " and ".join(NAMES[format_] for format_ in mix) or "none"
        lines.append(f"| {name} | {' | '.join(f'{wait:.1f}' for wait in found)} | {pace:,.0f} |")
    return "\n".join(lines)


@contextmanager
def _streaming(server: Server, mix: tuple[Format, ...], table: pa.Table) -> Iterator[list[Format]]:
    """Stream tables of these formats, one after the other; the list grows by each that is finished."""
    ending = threading.Event()
    done: list[Format] = []

    def stream(format_: Format, content: bytes) -> None:
        while not ending.is_set():
            server.post(format_, content, "?on_error=report").read()
            done.append(format_)

    with ThreadPoolExecutor() as pool:
        streams = [pool.submit(stream, format_, body(format_, table)) for format_ in mix]
        try:
            yield done
        finally:
            ending.set()
        for each in streams:
            each.result()
