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
from patient.printable import printable
from patient.record import FIELDS, measurements
from patient.table import invalid_cells
from trainer.atomic_write import atomic_write
from trainer.readers import COLUMNS, TARGET, Block, list_files, open_tables
from trainer.readers import DatasetError as DatasetError  # re-exported: `read` raises it

MAX_ROWS_IN_MEMORY = 1_000_000  # 60 MB; a longer table is read again for every pass
MAX_SAMPLE_ROWS = 500_000  # rows that metrics are computed on

MAX_LISTED_REPEATS = 10  # rows that are identical to an earlier one

Chunk = tuple[Floats, Floats]  # rows float32[n,13], NaN = missing; target float32[n] of 0 and 1
Places = tuple[Path, NDArray[np.int64]]  # a file, and the number of each row of a chunk as in Block.lines


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
    notes: what the latest pass left out of the files beside rows
    """

    path: Path
    max_bad_share: float = 0.0
    rejects: Path | None = None
    rows: int = field(default=0, init=False)
    bad: int = field(default=0, init=False)
    notes: list[str] = field(default_factory=list, init=False)

    def __iter__(self) -> Iterator[Chunk]:
        return (chunk for chunk, _ in self.with_places())

    def with_places(self) -> Iterator[tuple[Chunk, Places]]:
        """Yield each chunk, and where its rows are."""
        self.rows = self.bad = 0
        first: Fault | None = None
        found = open_tables(self.path)
        self.notes = [f"{file.path}: {note}" for file in found for note in file.notes]
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
                    values, lines, invalid = block.values, block.lines, _invalid(block)
                    if invalid.any():
                        first = first or next(_faults(file.path, block, invalid))
                        faults = _faults(file.path, block, invalid)
                        rejects.writerows((printable(path), *cell) for path, *cell in faults)
                        is_valid = ~invalid.any(axis=1)
                        values, lines = values[is_valid], lines[is_valid]
                    self.rows += len(values)
                    self.bad += len(invalid) - len(values)
                    if (max_rows_left := block.max_rows_left + left) > 0:
                        self._check_share(max_rows_left, first)
                    if len(values):
                        chunk = np.ascontiguousarray(values[:, :-1], np.float32), values[:, -1].astype(np.float32)
                        yield chunk, (file.path, lines)
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
        yield Fault(path, int(block.lines[row]), *cell)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex; of a folder, over name and digest of each file. Raises OSError."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    listed = "".join(f"{digest(file)}  {file.name}\n" for file in list_files(path))
    return hashlib.sha256(listed.encode(errors="surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class Dataset:
    """A table in memory, and the name and digest of its file."""

    rows: Floats  # float32[N,13], NaN = missing
    target: Floats  # float32[N] of 0 and 1
    name: str
    sha256: str
    notes: tuple[str, ...] = ()  # what was left out of the file beside rows, and which rows are identical

    def __len__(self) -> int:
        return len(self.target)


def read(path: Path) -> Dataset:
    """Read a table into memory. Raises DatasetError for an invalid row, and for a target with one class."""
    source = TableSource(path)
    found = list(source.with_places())
    rows, target = sample((chunk for chunk, _ in found), np.inf)
    if len(set(target.tolist())) < 2:
        raise DatasetError(f"{path}: {TARGET} must hold both 0 and 1")
    return Dataset(rows, target, printable(path.name), digest(path), (*source.notes, *describe_identical(found)))


def describe_identical(chunks: list[tuple[Chunk, Places]]) -> list[str]:
    """Return a note that counts and names rows that are identical to an earlier one, if there are any."""
    if not chunks:
        return []
    rows = np.concatenate([np.column_stack(chunk) for chunk, _ in chunks])
    rows[rows == 0], rows[np.isnan(rows)] = 0, np.nan  # without signs: rows are compared by their bytes
    key = rows.view(np.dtype((np.void, rows[0].nbytes))).ravel()
    _, earliest, group = np.unique(key, return_index=True, return_inverse=True)
    repeats = np.flatnonzero(earliest[group] != np.arange(len(rows)))
    if not len(repeats):
        return []
    places = [(path, line) for _, (path, lines) in chunks for line in lines.tolist()]
    is_folder = len({path for path, _ in places}) > 1

    def place(row: int) -> str:
        path, line = places[row]
        return f"{path.name}:{line}" if is_folder else str(line)

    shown = repeats[:MAX_LISTED_REPEATS].tolist()
    listed = ", ".join(f"{place(row)} repeats {place(earliest[group[row]])}" for row in shown)
    more = f" and {len(repeats) - len(shown)} more" if len(repeats) > len(shown) else ""
    return [
        f"Identical rows: {len(repeats)} of {len(rows)} repeat an earlier one. They are kept, but a network trained on "
        f"a row and tested on its copy looks better than it is. Lines: {listed}{more}"
    ]


class TrainTestTable:
    """A source, split into training and held-out rows: seeded, stratified within each chunk.

    In memory if it fits, else the files are read again for every pass. A first pass validates and counts the rows.

    notes: what was left out of the files beside rows, and, in memory, which rows are identical
    """

    def __init__(self, source: TableSource, test_share: float | None, seed: int, small: int) -> None:
        """`test_share` None: 0.2, or 0 if the table has at most `small` rows. Raises DatasetError."""
        self.source, self.seed = source, seed
        found: list[tuple[Chunk, Places]] | None = []
        count = positives = 0
        for (rows, target), places in source.with_places():
            count += len(rows)
            positives += int(target.sum())
            if found is not None:
                found = [*found, ((rows, target), places)] if count <= MAX_ROWS_IN_MEMORY else None
        if not 0 < positives < count:
            raise DatasetError(f"{source.path}: {TARGET} must hold both 0 and 1")
        self.kept = None if found is None else [chunk for chunk, _ in found]
        self.notes = [*source.notes, *describe_identical(found or [])]
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
