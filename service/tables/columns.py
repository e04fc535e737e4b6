"""Which columns a table has: the 13 fields in any order, those that pass through unchanged, and no other."""

import re
from collections import Counter
from collections.abc import Sequence

from patient.record import FIELDS, measurements
from service.tables.errors import ColumnsError

ANSWER = ("probability", "heart_disease", "missing", "error")
ALL = "*"
LONGEST = 64  # characters of a column's name that an error repeats
NUMBER = re.compile(r"\s*([+-]?[\d.][\d.,eE+-]*|nan|\?)?\s*", re.IGNORECASE)

Keep = tuple[str, ...]  # names of columns to pass through; ("*",) is all others


def keep(names: str) -> Keep:
    """What `a,b` or `*` asks to pass through. Raises ColumnsError for a name that cannot be kept."""
    chosen = tuple(dict.fromkeys(name for name in names.split(",") if name))
    _refuse_impossible(chosen)
    return (ALL,) if ALL in chosen else chosen


def kept(header: Sequence[str], chosen: Keep) -> list[str]:
    """The columns that pass through, in the table's order.

    Raises ColumnsError where a field is not there, a column stands twice, is unknown, or cannot be kept.
    """
    if header and all(NUMBER.fullmatch(name) for name in header):  # a patient: nothing of it may be repeated
        raise ColumnsError([("", "The table has no header: the first line must name its columns")])
    others = [name for name in header if name not in FIELDS]
    wrong = [(field.name, f"{field.title} is missing") for field in measurements() if field.name not in header]
    wrong += [(shown(name), "The column is there twice") for name, count in Counter(header).items() if count > 1]
    if ALL in chosen:
        _refuse_impossible(others)
    else:
        wrong += [
            (shown(name), "Not a field of a patient record; name it in `keep` to pass it through")
            for name in dict.fromkeys(others)
            if name not in chosen
        ]
        wrong += [(shown(name), "The column to keep is not there") for name in chosen if name not in header]
    if wrong:
        raise ColumnsError(wrong)
    return others


def shown(name: str) -> str:
    """As much of a column's name as may be repeated: not a number, which could be a patient's."""
    return "(a number)" if NUMBER.fullmatch(name) else name[:LONGEST].encode(errors="replace").decode()


def _refuse_impossible(names: Sequence[str]) -> None:
    wrong = [(shown(name), "The answer has a column of this name: rename yours") for name in names if name in ANSWER]
    wrong += [(name, "A field of the patient record is read, not kept") for name in names if name in FIELDS]
    if wrong:
        raise ColumnsError(wrong)
