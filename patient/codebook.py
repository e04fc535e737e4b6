"""The codes of Kaggle's heart.csv: tables in them are recognised by their first rows, and converted.

That file holds the Cleveland patients under other numbers. Many are valid here too and mean another finding, so its
rows must not be scored as they are. docs/codebook.md describes both codebooks and the rule.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from patient.record import FIELDS
from patient.table import is_not_taken

TARGET = "target"

# Kaggle's code to ours; None: not taken. Kaggle's target is 1 for patients without the disease.
OUR_CODES: dict[str, dict[int, int | None]] = {
    "cp": {0: 4, 1: 2, 2: 3, 3: 1},
    "restecg": {0: 2, 1: 0, 2: 1},
    "slope": {0: 3, 1: 2, 2: 1},
    "ca": {0: 0, 1: 1, 2: 2, 3: 3, 4: None},
    "thal": {0: None, 1: 6, 2: 3, 3: 7},
    TARGET: {0: 1, 1: 0},
}

# What tells the codebooks apart: codes that only one of them has. To us cp 0 is valid, but does not occur in the data;
# thal 0 is left out, because people also write it for what was not taken.
ONLY_KAGGLE: dict[str, tuple[int, ...]] = {"cp": (0,), "slope": (0,), "ca": (4,), "thal": (1, 2)}
ONLY_OURS: dict[str, tuple[int, ...]] = {"cp": (4,), "slope": (3,), "thal": (6, 7)}

_PLACES = [(name, FIELDS.index(name)) for name in ONLY_KAGGLE]
_KAGGLE_PAIRS = [(i, code) for name, i in _PLACES for code in ONLY_KAGGLE[name]]
_OUR_PAIRS = [(name, code) for name, codes in ONLY_OURS.items() for code in codes]

JUDGED_ROWS = 1000  # of a table: Kaggle's file has 303, and 267 of them with a code of ONLY_KAGGLE
FEW_ROWS = 3  # that may be mistyped in one column of a small table
FEW_SHARE = 0.05  # the same in a large one

Column = NDArray[np.number]


class NotConvertible(ValueError):
    """A table is not one in Kaggle's codes. The message names columns and what they may hold, never a cell."""


@dataclass(slots=True)
class Evidence:
    """Counts over the first JUDGED_ROWS rows of a table.

    kaggle: rows with a code of ONLY_KAGGLE, by column; kaggle_rows and our_rows: rows with one of ONLY_KAGGLE and of
    ONLY_OURS in any column
    """

    rows: int = 0
    kaggle: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ONLY_KAGGLE, 0))
    kaggle_rows: int = 0
    our_rows: int = 0

    def add(self, columns: Sequence[Column] | Column) -> str | None:
        """Count the next rows; return why the table is refused, or None.

        columns: the 13 fields in the record's order, each integers[n] or floats[n]; what is no number does not count
        """
        left = JUDGED_ROWS - self.rows
        if left <= 0:
            return None
        first = {name: columns[i][:left] for name, i in _PLACES}
        self.rows += len(first["cp"])
        self.our_rows += _count([first[name] == code for name, code in _OUR_PAIRS])
        found = [_any([first[name] == code for code in codes]) for name, codes in ONLY_KAGGLE.items()]
        for name, rows in zip(ONLY_KAGGLE, found, strict=True):
            self.kaggle[name] += _count([rows])
        self.kaggle_rows += _count(found)
        return self._describe() if self.kaggle_rows and self._is_kaggle() else None

    def _is_kaggle(self) -> bool:
        """Whether many rows have a code that only Kaggle has in one column, or some in two columns."""
        if any(self._is_many(count) for name, count in self.kaggle.items() if name != "cp"):
            return True
        if self._is_many(self.kaggle["cp"]) and self.kaggle["cp"] > self.our_rows:  # a row with cp 0 may be one of ours
            return True
        is_common = self.kaggle_rows > FEW_SHARE * self.rows
        return len(self._columns()) > 1 and is_common and self.kaggle_rows >= self.our_rows

    def _is_many(self, rows: int) -> bool:
        return rows > max(FEW_ROWS, FEW_SHARE * self.rows)

    def _columns(self) -> list[str]:
        return [name for name, count in self.kaggle.items() if count]

    def _describe(self) -> str:
        *names, last = self._columns()
        columns = f"{', '.join(names)} and {last}" if names else last
        return (
            f"The table looks like Kaggle's heart.csv, whose codes mean other findings here: see {columns} in "
            f"{self.kaggle_rows} of its first {self.rows} rows. `heart convert IN.csv OUT.csv` converts such a file, "
            "its target included; docs/codebook.md has the codes. If it is another table, write null for what was not "
            "taken and correct these columns."
        )


def find_mismatch(rows: Column) -> str | None:
    """Return why a whole table, float[N,13], is refused, or None. Fast where no cell has a code of ONLY_KAGGLE."""
    first = rows[:JUDGED_ROWS]
    is_ours = not any(np.count_nonzero(first[:, i] == code) for i, code in _KAGGLE_PAIRS)
    return None if is_ours else Evidence().add(first.T)


def _any(found: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    return reduce(np.logical_or, found)


def _count(found: Sequence[NDArray[np.bool_]]) -> int:
    """Return the number of rows in which any of them is true."""
    return int(np.count_nonzero(_any(found)))


def convert(rows: Iterable[list[str]]) -> Iterator[list[str]]:
    """Yield the rows of a CSV file in Kaggle's codes in ours, the header first; other columns stay as they are.

    Raises NotConvertible for a header without the columns of OUR_CODES (`target` may be absent), and for a row that
    lacks a cell or has one that is no code of Kaggle's.
    """
    lines = iter(rows)
    header = next(lines, [])
    names = [name.strip().lower() for name in header]
    if lacking := [name for name in OUR_CODES if name not in names and name != TARGET]:
        raise NotConvertible(f"the first line must name the columns; it lacks {', '.join(lacking)}")
    yield header
    for line in lines:
        if not line:
            continue
        if len(line) != len(names):
            raise NotConvertible(f"the row has {len(line)} cells, the header {len(names)}")
        yield [_convert_cell(name, cell) for name, cell in zip(names, line, strict=True)]


def _convert_cell(column: str, cell: str) -> str:
    codes = OUR_CODES.get(column)
    if codes is None:
        return cell
    if is_not_taken(cell):
        return ""
    try:
        code = codes[float(cell)]  # type: ignore[index]  # 1.0 finds the key 1
    except (ValueError, KeyError):
        *others, last = map(str, codes)
        raise NotConvertible(f"{column} must be {', '.join(others)} or {last} in Kaggle's codes, or empty") from None
    return "" if code is None else str(code)
