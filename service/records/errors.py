"""Errors of patient records and tables. No message repeats a value that was sent, because it is a patient's."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_LISTED_ERRORS = 100  # faults that an error lists; the rest are only counted
MAX_NAME_LENGTH = 64  # characters of an unknown field's or column's name that an error repeats
NO_PROBABILITY = "The model has no probability for this record"
NUMBER = re.compile(r"\s*([+-]?[\d.][\d.,eE+-]*|nan|\?)?\s*", re.IGNORECASE)


class FieldFault(NamedTuple):
    """What is wrong with a single record: the field (empty: the record as a whole), and what was expected."""

    field: str
    detail: str


class RowFault(NamedTuple):
    """What is wrong with a row: its number from 0, the column (empty: the row as a whole), and what was expected."""

    row: int
    column: str
    reason: str


@dataclass
class Tally:
    """Counts of the rows read so far, and notes on a table that is read all the same, which repeat nothing of it."""

    rows: int = 0
    bad: int = 0  # invalid rows
    total: int = 0  # faults of all invalid rows
    faults: list[RowFault] = field(default_factory=list)  # the first MAX_LISTED_ERRORS
    fields: Counter[str] = field(default_factory=Counter)  # faults per column
    notes: list[str] = field(default_factory=list)

    def add(self, row: int, faults: Sequence[FieldFault]) -> None:
        self.bad += 1
        self.total += len(faults)
        self.fields.update(name for name, _ in faults)
        room = MAX_LISTED_ERRORS - len(self.faults)
        self.faults += [RowFault(row, *fault) for fault in faults[:room]]


class RecordError(Exception):
    """Records that cannot be scored. The message is a sentence."""


class MalformedJson(RecordError):
    """A body or line is not JSON; the message says where it breaks."""


class InvalidRecord(RecordError):
    """A record that PatientRecord refuses. Beyond MAX_LISTED_ERRORS its faults are not counted, but one says so."""

    def __init__(self, faults: list[FieldFault]) -> None:
        count = f"{len(faults)} errors" if len(faults) > 1 else "1 error"
        if len(faults) > MAX_LISTED_ERRORS:
            count = f"more than {MAX_LISTED_ERRORS} errors"
            faults = [*faults[:MAX_LISTED_ERRORS], FieldFault("", "The record has more errors than these")]
        super().__init__(f"Not a valid patient record: {count}, see `errors`.")
        self.faults = faults


class InvalidRows(RecordError):
    """Invalid rows in a batch that must have none. Raised when all rows have been counted."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(f"{tally.bad} of {tally.rows} rows failed validation.")
        self.tally = tally


class TooLarge(RecordError):
    """More than a limit allows; the message names the limit."""


class NoProbability(RecordError):
    """The model's output for these valid rows is not a probability."""

    def __init__(self, rows: Sequence[int] = ()) -> None:
        super().__init__(f"{NO_PROBABILITY}; it has been logged.")
        self.rows = rows  # numbers in a batch; none for a single record


class TableError(RecordError):
    """A table is damaged, cut off, or not in the format it claims."""


class OtherCodebook(TableError):
    """A table has the codes of another data set: its rows mean other findings than they say here."""


class DiskFull(TableError):
    """There is no disk space left for a table's temporary file."""


class ColumnsError(TableError):
    """The columns are not those of a table of patients."""

    def __init__(self, columns: Sequence[FieldFault]) -> None:
        super().__init__("; ".join(": ".join(filter(None, fault)) for fault in columns))
        self.columns = columns


EMPTY_BATCH = FieldFault("", "The batch is empty: send at least one record")


def shown_name(name: str) -> str:
    """Shorten an unknown name for an error message. A number is not repeated: it could be a patient's value."""
    return "(a number)" if NUMBER.fullmatch(name) else name[:MAX_NAME_LENGTH].encode(errors="replace").decode()
