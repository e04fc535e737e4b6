"""The request bodies: the 303 patients of the data set, six of whom lack a measurement."""

import csv
import json
import random
from pathlib import Path

from benchmarks.serving.servers import ROOT, Patient, Server
from patient.record import measurements

INVALID = {"age": "old", "sex": 7}  # one of the wrong type, one out of range


def cleveland() -> list[Patient]:
    """All patients, as JSON values."""
    names = [field.name for field in measurements()]
    with (ROOT / "trainer/data/cleveland.csv").open() as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return [{name: json.loads(row[name] or "null") for name in names} for row in rows]


def batch(patients: list[Patient], rows: int, seed: int) -> list[Patient]:
    """Patients drawn at random."""
    return random.Random(seed).choices(patients, k=rows)  # noqa: S311, no secret


def untaken(patient: Patient) -> Patient:
    """The same patient with every nullable field missing."""
    return patient | {field.name: None for field in measurements() if field.nullable}


def line(server: Server, patients: Patient | list[Patient]) -> bytes:
    """One body for this server."""
    return json.dumps(server.wrap(patients), separators=(",", ":")).encode()


class Bodies:
    """Files of request bodies in a folder, one body per line: a record or an array, for each server."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder = folder
        self.singles = cleveland()
        self.batches = [batch(self.singles, rows, seed) for seed in range(4)]

    def file(self, server: Server, batches: bool) -> Path:
        """The file, written on first use."""
        path = self.folder / f"{server.name}-{'batch' if batches else 'single'}.jsonl"
        if not path.exists():
            cases = self.batches if batches else self.singles
            path.write_bytes(b"".join(line(server, case) + b"\n" for case in cases))
        return path
