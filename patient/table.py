"""Many patients at once: what PatientRecord refuses, found column by column."""

import numpy as np
from numpy.typing import NDArray

from patient.record import measurements


def refused(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which cells of float64[N,13] (NaN = missing, the record's order) PatientRecord would refuse: bool[N,13].

    What a refused cell should have been is `measurements()[column].expected`. Check before rounding to float32, which
    takes 120.000001 for 120. Column-major arrays (`order="F"`) spare a copy.
    """
    columns = np.asfortranarray(values)
    out = np.empty(values.shape, np.bool_, order="F")
    for i, field in enumerate(measurements()):
        column = columns[:, i]
        if field.codes:
            wrong = column == column if field.nullable else np.ones(len(column), np.bool_)  # only NaN is not itself
            for code in field.codes:
                wrong &= column != code
        elif field.nullable:
            wrong = (column < field.low) | (column > field.high)  # never true of NaN
        else:
            wrong = ~((column >= field.low) & (column <= field.high))  # always true of NaN
        out[:, i] = wrong
    return out
