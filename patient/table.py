"""Tables of patients: CSV cells that mean "not taken", and the cells that PatientRecord refuses, found by column."""

import numpy as np
from numpy.typing import NDArray

from patient.record import Measurement, measurements

# What UCI, pandas, R, Excel and MySQL write for a missing value; every reader of CSV uses this table. pyarrow compares
# exactly and builds a trie of these spellings for each column of each block, so other cases are left to `is_not_taken`.
NULL_VALUES = ("", "?", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None", r"\N")
NOT_TAKEN = frozenset({cell.lower() for cell in NULL_VALUES} | {"+nan", "-nan"})  # cells in any case, without BLANKS
BLANKS = " \t"


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
