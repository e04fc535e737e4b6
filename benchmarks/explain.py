"""Compare explanations with the shap package's exact explainer, and measure single records beside explanations.

Usage: python -m benchmarks.explain [--rounds N] [--write]

Both use the same model, background, core and patients, one patient at a time and alternating, so that a slow machine
slows both. Results are medians over the patients of each one's median over the rounds, in processor time. shap computes
the values alone. `--write` puts the tables into benchmarks/RESULTS.md.
"""

import argparse
import http.client
import json
import logging
import os
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import numpy as np

from benchmarks.results import put
from benchmarks.tables import OURS, ROOT, Server, serving
from patient.artefact import FILE, INPUT, OUTPUT
from patient.encoding import Floats, as_array
from patient.record import EXAMPLE, FIELDS
from service.explain.explanation import explain, log_odds
from service.explain.shapley import Doubles, compute_shapley_values
from service.model.loading import load
from service.model.predictor import Predictor
from service.model.session import create_cpu_session
from service.records.decoding import Values
from trainer.dataset import read

BEGIN, END = "<!-- make bench-explain writes from here -->", "<!-- make bench-explain writes to here -->"
MODELS = ROOT / "models/heart_disease"
BARE: dict[str, float | None] = {**dict.fromkeys(FIELDS), "age": 50.5, "sex": 1}
Explain = Callable[[Floats], object]


def groups() -> dict[str, Floats]:
    """float32[N,13] each: real patients, and the slowest case, which shares almost no value with the background."""
    rows = read(ROOT / "trainer/data/cleveland.csv").rows
    return {
        "40 patients of the data set": rows[:: len(rows) // 40][:40],
        "only age and sex known": as_array([BARE.values()]).astype(np.float32),
    }


def ways(model: Predictor) -> dict[str, Explain]:
    """The timed functions, by name; each takes float32[13]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import shap
    logging.getLogger("shap").setLevel(logging.ERROR)
    background = as_array(model.metadata.background).astype(np.float32)
    session = create_cpu_session((MODELS / model.version / FILE).read_bytes())

    def whole(rows: Floats) -> Floats:
        return cast(Floats, session.run([OUTPUT], {INPUT: rows})[0][:, 0])

    def theirs(run: Callable[[Floats], Floats]) -> Explain:
        def function(rows: Doubles) -> Doubles:
            return log_odds(run, rows.astype(np.float32))

        masker = shap.maskers.Independent(background, max_samples=len(background))
        explainer = shap.explainers.Exact(function, masker)
        return lambda row: explainer(row[None])

    return {
        "this service, all of the answer": lambda row: explain(model, as_values(row)),
        "this service, Shapley values": lambda row: compute_shapley_values(partial(log_odds, model), row, background),
        "shap, the model in chunks as here": theirs(model),
        "shap, the model's session as it is": theirs(whole),
    }


def as_values(row: Floats) -> Values:
    """A row as decoded values of a record."""
    return tuple(None if np.isnan(value) else value for value in row.tolist())


def speed(model: Predictor, rounds: int) -> str:
    """Milliseconds per explanation, as Markdown."""
    timed, tables = ways(model), []
    for group, rows in groups().items():
        seconds: dict[str, list[list[float]]] = {name: [[] for _ in rows] for name in timed}
        for turn in range(rounds + 1):
            for i, row in enumerate(rows):
                for name, way in timed.items():
                    begun = time.process_time()
                    way(row)
                    if turn:
                        seconds[name][i].append(time.process_time() - begun)
        own = {name: [statistics.median(times) * 1e3 for times in of] for name, of in seconds.items()}
        base = own["this service, Shapley values"]
        tables += [f"| {group} | ms | largest | times as long |", "|---|---:|---:|---:|"]
        for name, found in own.items():
            ratio = statistics.median(over / under for over, under in zip(found, base, strict=True))
            tables.append(f"| {name} | {statistics.median(found):.1f} | {max(found):.1f} | {ratio:.1f} |")
        tables.append("")
    return "\n".join(tables)


class Client:
    """One connection that posts records."""

    def __init__(self, server: Server) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port)

    def post(self, path: str, content: object) -> int:
        """Post a record and return the status."""
        self.connection.request("POST", path, json.dumps(content), {"Content-Type": "application/json"})
        response = self.connection.getresponse()
        response.read()
        return response.status


@contextmanager
def explaining(server: Server, content: object, connections: int) -> Iterator[list[int]]:
    """Request explanations without pause on `connections` connections; yields the list of their statuses."""
    stop, statuses = threading.Event(), list[int]()

    def ask() -> None:
        client = Client(server)
        while not stop.is_set():
            statuses.append(client.post("/explain", content))

    threads = [threading.Thread(target=ask) for _ in range(connections)]
    for thread in threads:
        thread.start()
    yield statuses
    stop.set()
    for thread in threads:
        thread.join()


def waits(seconds: float, rounds: int) -> str:
    """Latency of single records beside explanations, as Markdown."""
    loads = {
        "nothing": (EXAMPLE, 0),
        "explanations, 2 connections": (EXAMPLE, 2),
        "the same, only age and sex known": (BARE, 2),
        "explanations of 16 records, 2 connections": ([EXAMPLE] * 16, 2),
    }
    found: dict[str, list[float]] = {name: [] for name in loads}
    with serving(*OURS) as server:
        Client(server).post("/explain", EXAMPLE)
        for _ in range(rounds):
            for name, (content, connections) in loads.items():
                with explaining(server, content, connections) as statuses:
                    client, end = Client(server), time.perf_counter() + seconds
                    while time.perf_counter() < end:
                        begun = time.perf_counter()
                        client.post("/predict", EXAMPLE)
                        found[name].append((time.perf_counter() - begun) * 1e3)
                        time.sleep(0.001)
                assert set(statuses) <= {200}
    lines = ["| `POST /predict` beside | p50 ms | p99 ms |", "|---|---:|---:|"]
    lines += [f"| {name} | {np.percentile(t, 50):.2f} | {np.percentile(t, 99):.1f} |" for name, t in found.items()]
    return "\n".join(lines)


def main() -> None:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true")
    flags = parser.parse_args()
    os.sched_setaffinity(0, {1})
    text = f"{speed(load(MODELS, 'cpu'), flags.rounds)}\n{waits(2, flags.rounds)}"
    sys.stdout.write(text + "\n")
    if flags.write:
        put(BEGIN, END, text)


if __name__ == "__main__":
    main()
