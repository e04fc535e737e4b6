"""Check a table's columns: the 13 fields in any order, columns that pass through unchanged, and no others with a name.

Errors never repeat an unknown name of the header: without a header, the first line holds a patient's values.
"""

from collections import Counter
from collections.abc import Sequence

from patient.csv import MAX_COLUMNS
from patient.record import FIELDS, measurements
from patient.table import MIN_FIELDS, count_fields, describe_missing, is_unnamed, list_columns
from service.records.errors import ColumnsError, FieldFault, TooLarge

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


def check_header(header: Sequence[str], keep: Keep, max_columns: int = MAX_COLUMNS) -> list[str]:
    """Return the columns that pass through, in the table's order. Columns without a name do not, unless `keep` has it.

    Raises ColumnsError for a missing field, and for a column that is duplicated, unknown, or cannot be kept; TooLarge.
    """
    check_count(len(header), max_columns)
    if count_fields(header) < MIN_FIELDS:
        raise ColumnsError([FieldFault("", describe_missing(header))])
    named = [(i, name) for i, name in enumerate(header, 1) if name in keep or not is_unnamed(name)]
    others = [name for _, name in named if name not in FIELDS]
    missing = (field for field in measurements() if field.name not in header)
    faults = [FieldFault(field.name, f"{field.title} is missing") for field in missing]
    repeated = {name: count for name, count in Counter(name for _, name in named).items() if count > 1}
    faults += [FieldFault(name, "The column occurs twice") for name in repeated if name in FIELDS]
    if places := [i for i, name in named if name in repeated and name not in FIELDS]:
        faults.append(FieldFault("", f"{list_columns(places)}: the name occurs twice"))
    if ALL in keep:
        _refuse_reserved(others)
    else:
        if unknown := [i for i, name in named if name not in FIELDS and name not in keep]:
            detail = "not in a patient record; name in `keep` what is to pass through"
            faults.append(FieldFault("", f"{list_columns(unknown)}: {detail}"))
        faults += [FieldFault(name, "The column to keep is missing") for name in keep if name not in header]
    if faults:
        raise ColumnsError(faults)
    return others


def check_count(count: int, most: int) -> None:
    if count > most:
        raise TooLarge(f"The table has more than {most} columns.")


def _refuse_reserved(names: Sequence[str]) -> None:
    if faults := [FieldFault(name, RESERVED[name]) for name in names if name in RESERVED]:
        raise ColumnsError(faults)
