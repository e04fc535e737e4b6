"""Check a table's columns: the 13 fields in any order, columns that pass through unchanged, and no others."""

from collections import Counter
from collections.abc import Sequence

from patient.record import FIELDS, measurements
from service.records.errors import NUMBER, ColumnsError, FieldFault, shown_name

RESULT_COLUMNS = ("probability", "heart_disease", "missing", "error")
RESERVED = {
    **dict.fromkeys(RESULT_COLUMNS, "The result has a column of this name: rename yours"),
    **dict.fromkeys(FIELDS, "A field of the patient record cannot be kept"),
}
ALL = "*"

Keep = tuple[str, ...]  # names of columns to pass through; (ALL,) is all others


def parse_keep(names: str) -> Keep:
    """Parse `a,b` or `*`, the columns to pass through. Raises ColumnsError for a name that cannot be kept."""
    keep = tuple(dict.fromkeys(name for name in names.split(",") if name))
    _refuse_reserved(keep)
    return (ALL,) if ALL in keep else keep


def check_header(header: Sequence[str], keep: Keep) -> list[str]:
    """Return the columns that pass through, in the table's order.

    Raises ColumnsError for a missing field, and for a column that is duplicated, unknown, or cannot be kept.
    """
    if header and all(NUMBER.fullmatch(name) for name in header):  # a patient's values, which no error may repeat
        raise ColumnsError([FieldFault("", "The table has no header: the first line must name its columns")])
    others = [name for name in header if name not in FIELDS]
    missing = (field for field in measurements() if field.name not in header)
    faults = [FieldFault(field.name, f"{field.title} is missing") for field in missing]
    duplicated = (name for name, count in Counter(header).items() if count > 1)
    faults += [FieldFault(shown_name(name), "The column occurs twice") for name in duplicated]
    if ALL in keep:
        _refuse_reserved(others)
    else:
        unknown = "Not a field of a patient record; name it in `keep` to pass it through"
        faults += [FieldFault(shown_name(name), unknown) for name in dict.fromkeys(others) if name not in keep]
        absent = (name for name in keep if name not in header)
        faults += [FieldFault(shown_name(name), "The column to keep is missing") for name in absent]
    if faults:
        raise ColumnsError(faults)
    return others


def _refuse_reserved(names: Sequence[str]) -> None:
    if faults := [FieldFault(name, RESERVED[name]) for name in names if name in RESERVED]:
        raise ColumnsError(faults)
