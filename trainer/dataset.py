"""Validated rows of a table: streamed in chunks, read into memory, or split into training and held-out rows."""

import csv
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from patient.codebook import Evidence
from patient.encoding import Floats
from patient.record import FIELDS, measurements
from patient.table import invalid_cells
from trainer.atomic_write import atomic_write
from trainer.readers import COLUMNS, TARGET, Block, list_files, open_tables
from trainer.readers import DatasetError as DatasetError  # re-exported: `read` raises it

MAX_ROWS_IN_MEMORY = 1_000_000  # 60 MB; a longer table is read again for every pass
MAX_SAMPLE_ROWS = 500_000  # rows that metrics are computed on

Chunk = tuple[Floats, Floats]  # rows float32[n,13], NaN = missing; target float32[n] of 0 and 1


class Fault(NamedTuple):
    """An invalid cell, or an invalid line if `column` is empty; `line` is the row in a Parquet file."""

    file: Path
    line: int
    column: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.column}{': ' if self.column else ''}{self.reason}"


@dataclass
class TableSource:
    """A CSV or Parquet file, or a folder of them, with the 13 fields and `target` in any order.

    Every iteration is one pass over the files that yields chunks of up to 65,536 rows and holds one at a time. Rows
    that PatientRecord refuses are left out; as soon as more than `max_bad_share` of all rows are certain to be invalid,
    the pass raises DatasetError and names the first. A complete pass writes the CSV file `rejects`: file, line, column
    and reason of every invalid cell.

    rows and bad: the number of rows that the latest pass yielded and left out
    """

    path: Path
    max_bad_share: float = 0.0
    rejects: Path | None = None
    rows: int = field(default=0, init=False)
    bad: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[Chunk]:
        self.rows = self.bad = 0
        first: Fault | None = None
        found = open_tables(self.path)
        if self.rejects and any(file.path.resolve() == self.rejects.resolve() for file in found):
            raise DatasetError(f"{self.rejects}: this is the table itself; list its invalid rows in another file")
        left = sum(file.max_rows for file in found)
        unlisted = nullcontext(Path(os.devnull))
        with (
            atomic_write(self.rejects) if self.rejects else unlisted as temporary,
            temporary.open("w", newline="", encoding="utf-8") as listed,
        ):
            rejects = csv.writer(listed, lineterminator="\n")
            rejects.writerow(Fault._fields)
            for file in found:
                left -= file.max_rows
                evidence = Evidence()
                for block in file.blocks():
                    if reason := evidence.add(block.values[:, :-1].T):
                        raise DatasetError(f"{file.path}: {reason}")
                    values, invalid = block.values, _invalid(block)
                    if invalid.any():
                        first = first or next(_faults(file.path, block, invalid))
                        rejects.writerows(_faults(file.path, block, invalid))
                        values = values[~invalid.any(axis=1)]
                    self.rows += len(values)
                    self.bad += len(invalid) - len(values)
                    if (max_rows_left := block.max_rows_left + left) > 0:
                        self._check_share(max_rows_left, first)
                    if len(values):
                        yield np.ascontiguousarray(values[:, :-1], np.float32), values[:, -1].astype(np.float32)
        self._check_share(0, first)

    def _check_share(self, max_rows_left: int, first: Fault | None) -> None:
        """Raise DatasetError if too many rows are invalid, even if all rows that may follow are valid."""
        read = self.rows + self.bad
        if first and self.bad / (read + max_rows_left) > self.max_bad_share:
            count = f"{self.bad} of {read} rows failed validation, the share allowed is {self.max_bad_share:g}"
            raise DatasetError(f"{self.path}: {count}; the first is {first}" if self.max_bad_share else str(first))


def _invalid(block: Block) -> NDArray[np.bool_]:
    """Find the invalid cells, bool[n,14]; of a row that could not be parsed only the first cell counts."""
    target = block.values[:, -1]
    invalid = np.column_stack([invalid_cells(block.values[:, :-1]), (target != 0) & (target != 1)])
    for row in block.broken:
        invalid[row] = np.arange(len(COLUMNS)) == 0
    return invalid


def _faults(path: Path, block: Block, invalid: NDArray[np.bool_]) -> Iterator[Fault]:
    expected = [*(field.expected for field in measurements()), "must be 0 or 1"]
    for row, column in np.argwhere(invalid):
        cell = ("", block.broken[row]) if row in block.broken else (COLUMNS[column], expected[column])
        yield Fault(path, block.first + int(row), *cell)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex; of a folder, over name and digest of each file. Raises OSError."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256("".join(f"{digest(file)}  {file.name}\n" for file in list_files(path)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Dataset:
    """A table in memory, and the name and digest of its file."""

    rows: Floats  # float32[N,13], NaN = missing
    target: Floats  # float32[N] of 0 and 1
    name: str
    sha256: str

    def __len__(self) -> int:
        return len(self.target)


def read(path: Path) -> Dataset:
    """Read a table into memory. Raises DatasetError for an invalid row, and for a target with one class."""
    rows, target = sample(TableSource(path), np.inf)
    if len(set(target.tolist())) < 2:
        raise DatasetError(f"{path}: {TARGET} must hold both 0 and 1")
    return Dataset(rows, target, path.name, digest(path))


class TrainTestTable:
    """A source, split into training and held-out rows: seeded, stratified within each chunk.

    In memory if it fits, else the files are read again for every pass. A first pass validates and counts the rows.
    """

    def __init__(self, source: TableSource, test_share: float | None, seed: int, small: int) -> None:
        """`test_share` None: 0.2, or 0 if the table has at most `small` rows. Raises DatasetError."""
        self.source, self.seed = source, seed
        kept: list[Chunk] | None = []
        count = positives = 0
        for rows, target in source:
            count += len(rows)
            positives += int(target.sum())
            kept = [*kept, (rows, target)] if kept is not None and count <= MAX_ROWS_IN_MEMORY else None
        if not 0 < positives < count:
            raise DatasetError(f"{source.path}: {TARGET} must hold both 0 and 1")
        self.kept = kept
        self.test_share = (0.0 if count <= small else 0.2) if test_share is None else test_share
        self.train_rows = sum(len(target) for _, target in self.train())
        self.test_rows = count - self.train_rows

    def __len__(self) -> int:
        return self.train_rows + self.test_rows

    def train(self) -> Iterator[Chunk]:
        return self._part(0)

    def test(self) -> Iterator[Chunk]:
        return self._part(1)

    def _part(self, which: int) -> Iterator[Chunk]:
        for i, (rows, target) in enumerate(self.source if self.kept is None else self.kept):
            indices = stratified_split(target, self.test_share, np.random.default_rng([self.seed, i]))[which]
            if len(indices):
                yield rows[indices], target[indices]


def stratified_split(
    target: Floats, share: float, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return sorted row indices of a training and a test part; the test part gets `share` of either class, rounded."""
    held_out = np.zeros(len(target), bool)
    for label in (0, 1):
        members = rng.permutation(np.flatnonzero(target == label))
        held_out[members[: round(share * len(members))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def sample(chunks: Iterable[Chunk], max_rows: float = MAX_SAMPLE_ROWS) -> Chunk:
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
