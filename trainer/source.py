"""A table of any size: valid rows in chunks, the others counted and listed."""

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
from trainer.beside import beside
from trainer.blocks import COLUMNS, Block, DatasetError, files, parts


class Fault(NamedTuple):
    """A cell that is wrong, or a whole line where `column` is empty; `line` is the row in a Parquet file."""

    file: Path
    line: int
    column: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.column}{': ' if self.column else ''}{self.reason}"


@dataclass
class Source:
    """A CSV or Parquet file, or a folder of them, with the 13 fields and `target` in any order.

    Every iteration is one pass over the files that holds one chunk of them at a time: up to 65,536 rows, float32[n,13]
    with NaN = missing, and their targets, float32[n] of 0 and 1. A row that is no valid PatientRecord is left out; once
    it is certain that more than `max_bad_share` of all rows are bad, the pass raises DatasetError and names the first.
    A complete pass writes the CSV file `rejects`: file, line, column and reason of every cell that was refused.

    rows and bad: how many rows the latest pass has taken and left out.
    """

    path: Path
    max_bad_share: float = 0.0
    rejects: Path | None = None
    rows: int = field(default=0, init=False)
    bad: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[tuple[Floats, Floats]]:
        self.rows = self.bad = 0
        first: Fault | None = None
        found = parts(self.path)
        if self.rejects and any(part.path.resolve() == self.rejects.resolve() for part in found):
            raise DatasetError(f"{self.rejects}: this is the table itself; its bad rows need another file")
        left = sum(part.most for part in found)
        with _listing(self.rejects) as write:
            for part in found:
                left -= part.most
                for block in part.blocks():
                    wrong = _wrong(block)
                    values = block.values
                    if wrong.any():
                        first = first or next(_faults(part.path, block, wrong))
                        write(_faults(part.path, block, wrong))
                        values = values[~wrong.any(axis=1)]
                    self.rows += len(values)
                    self.bad += len(wrong) - len(values)
                    if (more := block.left + left) > 0:
                        self._check(more, first)
                    if len(values):
                        yield np.ascontiguousarray(values[:, :-1], np.float32), values[:, -1].astype(np.float32)
        self._check(0, first)

    def _check(self, more: int, first: Fault | None) -> None:
        """Raise DatasetError if too many rows are bad, even if as many as `more` good ones follow."""
        read = self.rows + self.bad
        if first and self.bad / (read + more) > self.max_bad_share:
            count = f"{self.bad} of {read} rows are invalid, the share allowed is {self.max_bad_share:g}; the first is "
            raise DatasetError(f"{f'{self.path}: {count}' if self.max_bad_share else ''}{first}")


def digest(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex; of a folder, over the name and the digest of each file. Raises OSError."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256("".join(f"{digest(file)}  {file.name}\n" for file in files(path)).encode()).hexdigest()


def _wrong(block: Block) -> NDArray[np.bool_]:
    """bool[n,14]: the cells that are refused; of a broken row the first."""
    target = block.values[:, -1]
    wrong = np.column_stack([invalid_cells(block.values[:, :-1]), (target != 0) & (target != 1)])
    for row in block.broken:
        wrong[row] = np.arange(len(COLUMNS)) == 0
    return wrong


def _faults(path: Path, block: Block, wrong: NDArray[np.bool_]) -> Iterator[Fault]:
    expected = [*(field.expected for field in measurements()), "must be 0 or 1"]
    for row, column in np.argwhere(wrong):
        if row in block.broken:
            yield Fault(path, block.first + int(row), "", block.broken[row])
        else:
            yield Fault(path, block.first + int(row), COLUMNS[column], expected[column])


@contextmanager
def _listing(path: Path | None) -> Iterator[Callable[[Iterable[Fault]], None]]:
    """What writes faults into the file; into nothing without one."""
    if path is None:
        yield lambda _: None
        return
    with beside(path) as hidden, hidden.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Fault._fields)
        yield writer.writerows
