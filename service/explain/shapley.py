"""Exact Shapley values: what each measurement adds to a patient's answer, beside background patients.

The measurements of a coalition are the patient's own, the others a background patient's; a measurement's value is what
its joining adds, averaged over all orders in which the 13 may join, and over the background (Lundberg and Lee, 2017,
interventional). Where a background patient has the patient's own value, joining changes nothing: its value there is 0,
and coalitions with and without it are the same row. The rows that are left are run all at once: beside one background
patient 2^13 at most, some 700 for a real patient, and the result is the same to the last digit but float64's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from patient.encoding import Floats

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shares:
    """base + values.sum() == answer, but for float64's rounding.

    base: what the function gives for the background, on average; answer: for the patient; values: float64[K]
    """

    base: float
    answer: float
    values: Doubles


def shapley(function: Callable[[Floats], Doubles], row: Floats, background: Floats) -> Shares:
    """Each of the K values' share in function(row), with `function` from float32[N,K] to float64[N].

    row: float32[K]; background: float32[B,K] with B > 0; NaN is a value like others. Calls `function` once, with at
    most B * 2^K rows.
    """
    differs = (row != background) & ~(np.isnan(row) & np.isnan(background))
    sizes = 2 ** differs.sum(axis=1)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    rows = np.empty((ends[-1], len(row)), np.float32)
    for other, players, start, end in zip(background, differs, starts, ends, strict=True):
        _coalitions(rows[start:end], row, other, np.flatnonzero(players))
    results = function(rows)
    values = np.zeros(len(row))
    for players, start, end in zip(differs, starts, ends, strict=True):
        values[players] += _weights(int(players.sum())) @ results[start:end]
    return Shares(float(results[starts].mean()), float(results[ends - 1].mean()), values / len(background))


def _coalitions(rows: Floats, row: Floats, other: Floats, players: NDArray[np.intp]) -> None:
    """Fill float32[2^n,K] with all coalitions of n players: bit j of a row's number says that the j-th has joined."""
    rows[0] = other
    for j, player in enumerate(players):
        joined = rows[2**j : 2 ** (j + 1)]
        joined[:] = rows[: 2**j]
        joined[:, player] = row[player]


@cache
def _weights(players: int) -> Doubles:
    """float64[n,2^n] that takes the coalitions' results to the n players' values."""
    numbers = np.arange(2**players)
    joined = numbers >> np.arange(players)[:, None] & 1 == 1
    others = np.bitwise_count(numbers) - joined.astype(int)  # players that have joined, the one itself left out
    share = np.array([1 / (players * math.comb(players - 1, size)) for size in range(players)])
    weights: Doubles = np.where(joined, 1, -1) * share[others]
    return weights
