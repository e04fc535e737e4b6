"""A table in memory, and its seeded, stratified split."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patient.encoding import Floats
from patient.record import FIELDS
from trainer.readers import TARGET
from trainer.readers import DatasetError as DatasetError  # re-exported: `read` raises it
from trainer.table_source import TableSource, digest

Chunk = tuple[Floats, Floats]  # rows float32[n,13], NaN = missing; target float32[n] of 0 and 1


@dataclass(frozen=True, slots=True)
class Dataset:
    """rows: float32[N,13], NaN = missing; target: float32[N] of 0 and 1; name and sha256 of the file they came from.

    rejected: the number of invalid rows that were left out
    """

    rows: Floats
    target: Floats
    name: str
    sha256: str
    rejected: int = 0

    def __len__(self) -> int:
        return len(self.target)


def read(path: Path, max_bad_share: float = 0.0, rejects: Path | None = None) -> Dataset:
    """Read a CSV or Parquet file, or a folder of them, into memory; the arguments are those of TableSource.

    Raises DatasetError where TableSource does, and for a target with one class.
    """
    source = TableSource(path, max_bad_share, rejects)
    rows, target = concatenate(source)
    if len(set(target.tolist())) < 2:
        raise DatasetError(f"{path}: {TARGET} must hold both 0 and 1")
    return Dataset(rows, target, path.name, digest(path), source.bad)


def concatenate(chunks: Iterable[Chunk], max_rows: float = np.inf) -> Chunk:
    """Concatenate the first chunks, up to about `max_rows` rows."""
    taken: list[Chunk] = [(np.empty((0, len(FIELDS)), np.float32), np.empty(0, np.float32))]
    count = 0
    for chunk in chunks:
        taken.append(chunk)
        count += len(chunk[1])
        if count >= max_rows:
            break
    rows, target = (np.concatenate(arrays) for arrays in zip(*taken, strict=True))
    return rows, target


def stratified_split(
    target: Floats, share: float, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return sorted row indices of a training and a test part; the test part gets `share` of either class, rounded."""
    classes = [rng.permutation(np.flatnonzero(target == label)) for label in (0, 1)]
    counts = [round(share * len(members)) for members in classes]
    test = np.concatenate([members[:n] for members, n in zip(classes, counts, strict=True)])
    train = np.concatenate([members[n:] for members, n in zip(classes, counts, strict=True)])
    return np.sort(train), np.sort(test)
