"""Which columns a table has: the 13 fields in any order, those that pass through unchanged, and no other."""

from collections import Counter
from collections.abc import Sequence

from patient.record import FIELDS, measurements
from service.records.errors import NUMBER, ColumnsError, FieldFault, shown_name

RESULT = ("probability", "heart_disease", "missing", "error")
ALL = "*"

Keep = tuple[str, ...]  # names of columns to pass through; ("*",) is all others


def keep(names: str) -> Keep:
    """What `a,b` or `*` asks to pass through. Raises ColumnsError for a name that cannot be kept."""
    chosen = tuple(dict.fromkeys(name for name in names.split(",") if name))
    _refuse_reserved(chosen)
    return (ALL,) if ALL in chosen else chosen


def kept(header: Sequence[str], chosen: Keep) -> list[str]:
    """Return the columns that pass through, in the table's order.

    Raises ColumnsError for a missing field, and for a column that is duplicated, unknown, or cannot be kept.
    """
    if header and all(NUMBER.fullmatch(name) for name in header):  # a patient: nothing of it may be repeated
        raise ColumnsError([FieldFault("", "The table has no header: the first line must name its columns")])
    others = [name for name in header if name not in FIELDS]
    faults = [
        FieldFault(field.name, f"{field.title} is missing") for field in measurements() if field.name not in header
    ]
    duplicated = (name for name, count in Counter(header).items() if count > 1)
    faults += [FieldFault(shown_name(name), "The column is there twice") for name in duplicated]
    if ALL in chosen:
        _refuse_reserved(others)
    else:
        unknown = "Not a field of a patient record; name it in `keep` to pass it through"
        faults += [FieldFault(shown_name(name), unknown) for name in dict.fromkeys(others) if name not in chosen]
        absent = (name for name in chosen if name not in header)
        faults += [FieldFault(shown_name(name), "The column to keep is not there") for name in absent]
    if faults:
        raise ColumnsError(faults)
    return others


def _refuse_reserved(names: Sequence[str]) -> None:
    faults = [
        FieldFault(name, "The result has a column of this name: rename yours") for name in names if name in RESULT
    ]
    faults += [FieldFault(name, "A field of the patient record is read, not kept") for name in names if name in FIELDS]
    if faults:
        raise ColumnsError(faults)
