"""Many patients at once: what PatientRecord refuses, found column by column."""

import numpy as np
from numpy.typing import NDArray

from patient.record import Measurement, measurements


def refused(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which cells of float64[N,13] (NaN = missing, the record's order) PatientRecord would refuse: bool[N,13].

    What a refused cell should have been is `measurements()[column].expected`. Check before rounding to float32, which
    takes 120.000001 for 120. Column-major arrays (`order="F"`) spare a copy.
    """
    columns = np.asfortranarray(values)
    out = np.empty(values.shape, np.bool_, order="F")
    for i, field in enumerate(measurements()):
        out[:, i] = wrong(field, columns[:, i])
    return out


def all_right(field: Measurement, column: NDArray[np.number]) -> bool:
    """Whether PatientRecord would surely take all cells of one field: a quick look that may fail to see it."""
    if not len(column):
        return True
    if field.codes and (column.dtype.kind == "f" or len(field.codes) <= field.high - field.low):
        return not wrong(field, column).any()
    return bool(field.low <= column.min() and column.max() <= field.high)  # never true where there is a NaN


def wrong(field: Measurement, column: NDArray[np.number]) -> NDArray[np.bool_]:
    """Which cells of one field's column, floats[N] with NaN = missing or integers[N], PatientRecord would refuse."""
    if field.codes:
        found = column == column if field.nullable else np.ones(len(column), np.bool_)  # only NaN is not itself
        for code in field.codes:
            found &= column != code
        return found
    if field.nullable:
        return (column < field.low) | (column > field.high)  # never true of NaN
    return ~((column >= field.low) & (column <= field.high))  # always true of NaN
