"""Read a table of any size: yield its valid rows in chunks, count and list the invalid ones."""

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from patient.encoding import Floats
from patient.record import measurements
from patient.table import invalid_cells
from trainer.atomic_write import atomic_write
from trainer.readers import COLUMNS, Block, DatasetError, list_files, open_tables


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

    Every iteration is one pass over the files that holds one chunk at a time: up to 65,536 rows, float32[n,13] with
    NaN = missing, and their targets, float32[n] of 0 and 1. Rows that PatientRecord refuses are left out; as soon as
    more than `max_bad_share` of all rows are certain to be invalid, the pass raises DatasetError and names the first.
    A complete pass writes the CSV file `rejects`: file, line, column and reason of every invalid cell.

    rows and bad: the number of rows that the latest pass yielded and left out
    """

    path: Path
    max_bad_share: float = 0.0
    rejects: Path | None = None
    rows: int = field(default=0, init=False)
    bad: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[tuple[Floats, Floats]]:
        self.rows = self.bad = 0
        first: Fault | None = None
        found = open_tables(self.path)
        if self.rejects and any(file.path.resolve() == self.rejects.resolve() for file in found):
            raise DatasetError(f"{self.rejects}: this is the table itself; list its invalid rows in another file")
        left = sum(file.max_rows for file in found)
        with _open_rejects(self.rejects) as write:
            for file in found:
                left -= file.max_rows
                for block in file.blocks():
                    invalid = _invalid(block)
                    values = block.values
                    if invalid.any():
                        first = first or next(_faults(file.path, block, invalid))
                        write(_faults(file.path, block, invalid))
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


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex; of a folder, over name and digest of each file. Raises OSError."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256("".join(f"{digest(file)}  {file.name}\n" for file in list_files(path)).encode()).hexdigest()


def _invalid(block: Block) -> NDArray[np.bool_]:
    """bool[n,14]: the invalid cells; of a broken row the first."""
    target = block.values[:, -1]
    invalid = np.column_stack([invalid_cells(block.values[:, :-1]), (target != 0) & (target != 1)])
    for row in block.broken:
        invalid[row] = np.arange(len(COLUMNS)) == 0
    return invalid


def _faults(path: Path, block: Block, invalid: NDArray[np.bool_]) -> Iterator[Fault]:
    expected = [*(field.expected for field in measurements()), "must be 0 or 1"]
    for row, column in np.argwhere(invalid):
        if row in block.broken:
            yield Fault(path, block.first + int(row), "", block.broken[row])
        else:
            yield Fault(path, block.first + int(row), COLUMNS[column], expected[column])


@contextmanager
def _open_rejects(path: Path | None) -> Iterator[Callable[[Iterable[Fault]], None]]:
    """Yield a function that writes faults to the file; without a file it does nothing."""
    if path is None:
        yield lambda _: None
        return
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Fault._fields)
        yield writer.writerows
