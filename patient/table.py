"""Tables of patients: the header, CSV cells that mean "not taken", and cells that PatientRecord refuses, by column."""

import re
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from patient.record import FIELDS, Measurement, measurements

# What UCI, pandas, R, Excel and MySQL write for a missing value; every reader of CSV uses this table. pyarrow compares
# exactly and builds a trie of these spellings for each column of each block, so other cases are left to `is_not_taken`.
NULL_VALUES = ("", "?", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None", r"\N")
NOT_TAKEN = frozenset({cell.lower() for cell in NULL_VALUES} | {"+nan", "-nan"})  # cells in any case, without BLANKS
BLANKS = " \t"
# pandas writes an index without a name, and names such a column so when it reads it.
UNNAMED = re.compile(r"(?:Unnamed: [\d.]+|__index_level_\d+__)?")
MAX_LISTED_COLUMNS = 10  # whose places a message names
MIN_FIELDS = 7  # more than half; a header with fewer gets one error as a whole, not one for each column


def count_fields(names: Collection[str]) -> int:
    """Return how many of the 13 fields are named."""
    return len({*FIELDS} & {*names})


def describe_missing(header: Collection[str]) -> str:
    """Say which fields a header with fewer than MIN_FIELDS does not name, or that there is no header."""
    missing = ", ".join(name for name in FIELDS if name not in header)
    if found := count_fields(header):
        return f"The header names {found} of the {len(FIELDS)} fields; these are missing: {missing}"
    return f"The table has no header: the first line must name its columns, among them {missing}"


def is_unnamed(name: str) -> bool:
    """Return whether a header has no name for a column, such as an index or trailing separators."""
    return bool(UNNAMED.fullmatch(name))


def list_columns(places: Sequence[int]) -> str:
    """Name columns by their places, from 1, such as `Columns 14, 15`."""
    listed = ", ".join(map(str, places[:MAX_LISTED_COLUMNS]))
    more = len(places) - MAX_LISTED_COLUMNS
    return f"Column{'s' * (len(places) > 1)} {listed}{f' and {more} more' if more > 0 else ''}"


def describe_unnamed(header: Sequence[str], keep: Collection[str] = ()) -> list[str]:
    """Return a note if columns are left out because they have no name."""
    places = [i for i, name in enumerate(header, 1) if is_unnamed(name) and name not in keep]
    return [f"{list_columns(places)} without a name: left out"] if places else []


def is_not_taken(cell: str) -> bool:
    """Return whether a CSV cell says that the measurement was not taken; case and blanks around it do not matter."""
    return cell.strip(BLANKS).lower() in NOT_TAKEN


def invalid_cells(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Find the cells of float64[N,13] (NaN = missing, the record's order) that PatientRecord refuses: bool[N,13].

    `measurements()[column].expected` says what a valid cell is. Check before rounding to float32, which takes
    120.000001 for 120. Column-major arrays (`order="F"`) save a copy.
    """
    columns = np.asfortranarray(values)
    out = np.empty(values.shape, np.bool_, order="F")
    for i, field in enumerate(measurements()):
        out[:, i] = invalid_in_column(field, columns[:, i])
    return out


def is_missing(field: Measurement, column: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Find the valid cells of one field's column, floats[N], that say nothing: NaN, or coded as unspecified."""
    found: NDArray[np.bool_] = np.isnan(column)
    return found if field.unspecified is None else found | (column == field.unspecified)


def is_surely_valid(field: Measurement, column: NDArray[np.number]) -> bool:
    """Return True only if PatientRecord accepts all cells of a column. Fast; False means: ask `invalid_in_column`."""
    if not len(column):
        return True
    if field.codes and (column.dtype.kind == "f" or len(field.codes) <= field.high - field.low):
        return not invalid_in_column(field, column).any()
    return bool(field.low <= column.min() and column.max() <= field.high)  # never true where there is a NaN


def invalid_in_column(field: Measurement, column: NDArray[np.number]) -> NDArray[np.bool_]:
    """Find the cells of one field's column, floats[N] with NaN = missing or integers[N], that PatientRecord refuses."""
    if field.codes:
        found = column == column if field.nullable else np.ones(len(column), np.bool_)  # only NaN is not itself
        for code in field.codes:
            found &= column != code
        return found
    if field.nullable:
        return (column < field.low) | (column > field.high)  # never true of NaN
    return ~((column >= field.low) & (column <= field.high))  # always true of NaN
