"""Peak memory of the service against the rows of a table, streamed in both directions; every result is checked."""

import io
import json
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json

from benchmarks.tables import NAMES, OURS, ROOT, body, patients, serving
from patient.encoding import Floats
from patient.record import FIELDS
from service.model.loading import load
from service.tables.formats import ARROW, CSV, NDJSON, Format

BLOCK = 10_000  # rows that a long table repeats


def memory(sizes: list[int]) -> str:
    """Peak memory as Markdown."""
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
    """Yield a body of `times` blocks, without holding it in memory."""
    block = body(format_, table)
    start, end = 0, len(block)
    if format_ is CSV:
        start = block.index(b"\n") + 1
    elif format_ is ARROW:
        start, end = len(body(format_, table.slice(0, 0))) - 8, end - 8  # between the schema and the end marker
    for i in range(times):
        piece = block[0 if i == 0 else start : len(block) if i == times - 1 else end]
        sent[0] += len(piece)
        yield piece


def _checked(format_: Format, response: HTTPResponse, expected: Floats) -> int:
    """The number of rows returned; raises if one is wrong."""
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
