"""The encoding of 13 raw numbers as the network's 29 inputs: its layout, statistics and a numpy reference.

A model file has this encoding in its graph; tests compare the graph with the reference.
"""

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from patient.record import PatientRecord, measurements

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layout:
    """The encoded columns: first one per number, then one per code, both in the record's order.

    numeric: int[K], the index in the record of each standardised number
    onehot:  int[L], the index in the record of the field of each one-hot column
    codes:   float32[L], the code that it stands for
    """

    numeric: NDArray[np.intp]
    onehot: NDArray[np.intp]
    codes: Floats

    @property
    def width(self) -> int:  # 29
        return len(self.numeric) + len(self.onehot)


def layout() -> Layout:
    """Derive the columns from the fields of PatientRecord."""
    fields = measurements()
    pairs = [(i, code) for i, field in enumerate(fields) for code in field.codes]
    return Layout(
        numeric=np.array([i for i, field in enumerate(fields) if not field.codes]),
        onehot=np.array([i for i, _ in pairs]),
        codes=np.array([code for _, code in pairs], np.float32),
    )


_ROW = struct.Struct(f"{len(PatientRecord.model_fields)}f")
ROW_BYTES = _ROW.size
PACKED_VALUES = 130  # by `as_array` at once


def as_bytes(values: Iterable[float | None]) -> bytes:
    """Pack a row of float32[N,13] to bytes, NaN for None: numpy takes three times as long for one record."""
    try:
        return _ROW.pack(*values)
    except struct.error:
        return _ROW.pack(*(math.nan if value is None else value for value in values))


def from_bytes(rows: Iterable[bytes]) -> Floats:
    """float32[N,13] from rows of `as_bytes`."""
    return np.frombuffer(b"".join(rows), np.float32).reshape(-1, len(PatientRecord.model_fields))


def as_array(records: Iterable[Iterable[float | None]]) -> NDArray[np.float64]:
    """float64[N,13], NaN for None, from N times 13 values in the record's order.

    By `struct`, a third faster than numpy, and in parts, as one with a None takes longer.
    """
    values = list(chain.from_iterable(records))
    parts = [_pack(values[start : start + PACKED_VALUES]) for start in range(0, len(values), PACKED_VALUES)]
    return np.frombuffer(bytearray().join(parts), np.float64).reshape(-1, len(PatientRecord.model_fields))


def _pack(values: list[float | None]) -> bytes:
    """float64, NaN for None."""
    try:
        return struct.pack(f"{len(values)}d", *values)
    except struct.error:
        return struct.pack(f"{len(values)}d", *(math.nan if value is None else value for value in values))


def as_rows(records: Iterable[PatientRecord]) -> Floats:
    """float32[N,13] in the record's order, NaN where a measurement was not taken."""
    return as_array(record.__dict__.values() for record in records).astype(np.float32)


def statistics(chunks: Iterable[Floats]) -> tuple[Floats, Floats]:
    """Compute mean and population deviation of each numeric field of a table in chunks, without missing values.

    Takes float32[N,13], NaN = missing, and returns two float32[K]. A field that never varies, or was never taken, gets
    the deviation 1, so it encodes to 0. The sums are those of Chan, Golub and LeVeque (1979).
    """
    numeric = layout().numeric
    total, mean, squares = np.zeros((3, len(numeric)))
    for rows in chunks:
        numbers = rows[:, numeric].astype(np.float64)
        taken = ~np.isnan(numbers)
        count = taken.sum(axis=0)
        chunk_mean = np.where(taken, numbers, 0).sum(axis=0) / np.maximum(count, 1)
        chunk_squares = (np.where(taken, numbers - chunk_mean, 0) ** 2).sum(axis=0)
        after = np.maximum(total + count, 1)
        difference = chunk_mean - mean
        squares += chunk_squares + difference**2 * total * count / after
        mean += difference * count / after
        total += count
    std = np.sqrt(squares / np.maximum(total, 1))
    return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def encode(rows: Floats, mean: Floats, std: Floats) -> Floats:
    """Encode float32[N,13] (NaN = missing) as float32[N,29]: standardised numbers, then one-hot codes.

    A missing number becomes 0, the mean; a missing category, or an unknown code, is all zeros.
    """
    columns = layout()
    numbers = (rows[:, columns.numeric] - mean) * (1 / std)
    chosen = rows[:, columns.onehot] == columns.codes
    return np.hstack([np.where(np.isnan(numbers), np.float32(0), numbers), chosen.astype(np.float32)])
