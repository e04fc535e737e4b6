"""Compare tensors through the Open Inference Protocol with the model alone: python -m benchmarks.tensors [--seconds S].

Each size alternates with the model alone, S seconds (5) each in all. A ratio is the model's processor time divided by
the server's, which also receives, validates, rounds, writes and sends. Printed as Markdown, for benchmarks/RESULTS.md.
"""

import argparse
import http.client
import json
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from benchmarks.tables import OURS, ROOT, Server, body, patients, serving
from patient.encoding import Floats
from patient.record import FIELDS
from service.model.loading import load
from service.tables.formats import JSON

INFER = "/v2/models/heart_disease/infer"
CASES = [
    ("binary", 1000),
    ("binary", 10_000),
    ("binary", 100_000),
    ("JSON", 10_000),
    ("`/predict/batch`, JSON", 10_000),
]
ROUNDS = 10


def request(way: str, table: pa.Table, rows: Floats) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers."""
    if way not in ("binary", "JSON"):
        return "/predict/batch", body(JSON, table), {"Content-Type": "application/json"}
    tensor: dict[str, object] = {"name": "patient", "shape": list(rows.shape), "datatype": "FP32"}
    if way == "JSON":
        tensor["data"] = [value for row in table.to_pylist() for value in row.values()]
        return INFER, json.dumps({"inputs": [tensor]}).encode(), {}
    tensor["parameters"] = {"binary_data_size": rows.nbytes}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return INFER, head + rows.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


def repeated(work: Callable[[], object], seconds: float, clock: Callable[[], float]) -> tuple[int, float, float]:
    """Repeat `work` for `seconds`; returns the repetitions, the exact seconds, and the seconds of CPU time."""
    done, begun, before = 0, time.perf_counter(), clock()
    while time.perf_counter() < begun + seconds:
        work()
        done += 1
    return done, time.perf_counter() - begun, clock() - before


def line(server: Server, way: str, count: int, seconds: float) -> str:
    """One row of the table."""
    table = patients(count)
    rows = np.column_stack([table[name].to_numpy() for name in FIELDS]).astype(np.float32)
    model, sent = load(ROOT / "models/heart_disease", "cpu"), request(way, table, rows)
    connection = http.client.HTTPConnection("127.0.0.1", server.port)

    def ask() -> None:
        connection.request("POST", *sent)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()

    ask()
    ours, alone = np.zeros(3), np.zeros(3)
    for _ in range(ROUNDS):
        ours += repeated(ask, seconds / ROUNDS, server.cpu)
        alone += repeated(lambda: model(rows), seconds / ROUNDS, time.process_time)
    ratio = (alone[2] / alone[0]) / (ours[2] / ours[0])
    megabytes = len(sent[1]) / 1e6
    return f"| {way} | {count:,} | {megabytes:.2f} | {count * ours[0] / ours[1]:,.0f} | {ratio:.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Tensors over HTTP beside the model alone.")
    parser.add_argument("--seconds", type=float, default=5)
    seconds = parser.parse_args().seconds
    print("| tensors | rows | MB | rows/s | ratio of CPU seconds |\n|---|---:|---:|---:|---:|")  # noqa: T201
    with serving(*OURS) as server:
        for case in CASES:
            print(line(server, *case, seconds))  # noqa: T201


if __name__ == "__main__":
    main()
