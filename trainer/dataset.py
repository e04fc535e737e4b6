"""CSV to arrays, and seeded, stratified splits. The only place that knows how a file writes "not taken"."""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from patient.encoding import Floats, as_row
from patient.record import FIELDS, PatientRecord, measurements

TARGET = "target"
MISSING = ("", "?")  # UCI writes '?', everybody else an empty cell


class DatasetError(Exception):
    """A table that cannot be trained on. The message names file, line and column, never a value."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """rows: float32[N,13], NaN = missing; target: float32[N] of 0 and 1; name and sha256 of the file they came from."""

    rows: Floats
    target: Floats
    name: str
    sha256: str

    def __len__(self) -> int:
        return len(self.target)


def read_csv(path: Path) -> Dataset:
    """Read a CSV with the 13 fields and `target`, in any order; every row must be a valid PatientRecord.

    Raises DatasetError at the first thing that is wrong.
    """
    try:
        text = path.read_bytes()
        lines = csv.reader(text.decode("utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: {error.strerror if isinstance(error, OSError) else 'not UTF-8 text'}") from None
    header = next(lines, [])
    _check_header(path, header)
    rows, target = [], []
    for line, cells in enumerate(lines, start=2):
        if len(cells) != len(header):
            raise DatasetError(f"{path}:{line}: {len(cells)} cells, the header has {len(header)}")
        record = dict(zip(header, cells, strict=True))
        label = record.pop(TARGET)
        if label not in ("0", "1"):
            raise DatasetError(f"{path}:{line}: {TARGET} must be 0 or 1")
        rows.append(_row(path, line, record))
        target.append(float(label))
    if len(set(target)) < 2:
        raise DatasetError(f"{path}: {TARGET} must hold both 0 and 1")
    return Dataset(
        np.array(rows, np.float32), np.array(target, np.float32), path.name, hashlib.sha256(text).hexdigest()
    )


def _check_header(path: Path, header: list[str]) -> None:
    wanted = (*FIELDS, TARGET)
    for fault, columns in (
        ("lacks the column", [c for c in wanted if c not in header]),
        ("has the unknown column", [c for c in header if c not in wanted]),
        ("has twice the column", sorted({c for c in header if header.count(c) > 1})),
    ):
        if columns:
            raise DatasetError(f"{path}: the header {fault} {', '.join(columns)}")


def _row(path: Path, line: int, cells: dict[str, str]) -> list[float]:
    try:
        values = {name: None if cell in MISSING else float(cell) for name, cell in cells.items()}
        return as_row(PatientRecord.model_validate({name: values[name] for name in FIELDS}))
    except ValidationError as error:
        name = error.errors()[0]["loc"][0]
        expected = next(field.expected for field in measurements() if field.name == name)
        raise DatasetError(f"{path}:{line}: {name}: {expected}") from None
    except ValueError:
        raise DatasetError(f"{path}:{line}: every cell must be a number, or empty") from None


def stratified_split(
    target: Floats, share: float, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Sorted row indices of a training and a test part; `share` of either class, rounded, goes to the test part."""
    classes = [rng.permutation(np.flatnonzero(target == label)) for label in (0, 1)]
    counts = [round(share * len(members)) for members in classes]
    test = np.concatenate([members[:n] for members, n in zip(classes, counts, strict=True)])
    train = np.concatenate([members[n:] for members, n in zip(classes, counts, strict=True)])
    return np.sort(train), np.sort(test)
