"""What can be wrong with a table. No message repeats a value of a cell."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

# What pyarrow raises at damaged data; its words are not repeated, they quote the data.
DAMAGE = (pa.ArrowException, OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError)
LISTED = 100  # faults that are kept; the others are counted


class Fault(NamedTuple):
    """What is wrong with a row: the column (empty: the row as a whole) and the words of PatientRecord's errors."""

    row: int  # counted from 0, the header is none
    column: str
    reason: str


class TableError(Exception):
    """The table cannot be read on: damaged, cut off, or not what it is said to be. The message is a sentence."""


class TooLarge(TableError):
    """The table exceeds a limit, which the message names."""


class NoRoom(TableError):
    """What must be set aside for the table has no room on the disk."""


class NoProbability(TableError):
    """The model, and not the table, is at fault: it has no probability for a valid row."""


class ColumnsError(TableError):
    """The columns are not those of a table of patients: `columns` says which one is wrong, and how."""

    def __init__(self, columns: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in columns))
        self.columns = columns


@dataclass
class Tally:
    """What has gone by: rows, bad rows, the first faults and how many there were in all, also by column."""

    rows: int = 0
    bad: int = 0
    total: int = 0
    faults: list[Fault] = field(default_factory=list)
    fields: Counter[str] = field(default_factory=Counter)


class Refused(TableError):
    """There were bad rows, and none may pass. Raised once all were counted."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(f"{tally.bad} of {tally.rows} rows are bad.")
        self.tally = tally
