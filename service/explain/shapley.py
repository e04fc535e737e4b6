"""Exact Shapley values: what each measurement adds to a patient's result, compared with background patients.

In a coalition, some measurements are the patient's and the others a background patient's. A measurement's Shapley value
is what its joining adds, averaged over all orders in which the 13 can join, and over the background (interventional
values; Lundberg and Lee, 2017). Where patient and background patient agree, joining changes nothing and both coalitions
are the same row. The distinct rows, at most 2^13 and typically some 700 per background patient, are run all at once.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from patient.encoding import Floats

Doubles = NDArray[np.float64]


class ShapleyValues(NamedTuple):
    """base + values.sum() == output, except for float64's rounding.

    base: the function's mean over the background; output: its value for the patient; values: float64[K]
    """

    base: float
    output: float
    values: Doubles


def compute_shapley_values(function: Callable[[Floats], Doubles], row: Floats, background: Floats) -> ShapleyValues:
    """Attribute function(row) to the K values of the row.

    function: float32[N,K] to float64[N], called once with at most B * 2^K rows; row: float32[K]; background:
    float32[B,K], B > 0. NaN is a value like any other.
    """
    differs = (row != background) & ~(np.isnan(row) & np.isnan(background))
    sizes = 2 ** differs.sum(axis=1)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    rows = np.empty((ends[-1], len(row)), np.float32)
    for other, players, start, end in zip(background, differs, starts, ends, strict=True):
        _fill_coalitions(rows[start:end], row, other, np.flatnonzero(players))
    results = function(rows)
    values = np.zeros(len(row))
    for players, start, end in zip(differs, starts, ends, strict=True):
        values[players] += _weights(int(players.sum())) @ results[start:end]
    return ShapleyValues(float(results[starts].mean()), float(results[ends - 1].mean()), values / len(background))


def _fill_coalitions(rows: Floats, row: Floats, other: Floats, players: NDArray[np.intp]) -> None:
    """Fill float32[2^n,K] with all coalitions of n players: bit j of the row number is set if the j-th has joined."""
    rows[0] = other
    for j, player in enumerate(players):
        joined = rows[2**j : 2 ** (j + 1)]
        joined[:] = rows[: 2**j]
        joined[:, player] = row[player]


@cache
def _weights(players: int) -> Doubles:
    """float64[n,2^n], the matrix from the coalitions' results to the n players' values."""
    numbers = np.arange(2**players)
    joined = numbers >> np.arange(players)[:, None] & 1 == 1
    others = np.bitwise_count(numbers) - joined.astype(int)  # players that have joined, without the player itself
    share = np.array([1 / (players * math.comb(players - 1, size)) for size in range(players)])
    weights: Doubles = np.where(joined, 1, -1) * share[others]
    return weights
