"""Summarise the training rows for the model file: bins of every field, background rows, and a self-test."""

from collections.abc import Callable

import numpy as np

from patient.artefact import Bins, Checks, Row
from patient.encoding import Floats, encode, statistics
from patient.record import FIELDS, measurements

TENTHS = [tenth / 10 for tenth in range(1, 10)]


def bins(rows: Floats, target: Floats, probability: Floats) -> dict[str, Bins]:
    """Bin each field of float32[N,13], NaN = missing, and `probability`, float32[N]; with the share of disease per bin.

    Numbers by deciles of the rows, codes by code, probabilities in tenths from 0 to 1.
    """
    found = {}
    for field, column in zip(measurements(), rows.T, strict=True):
        taken = column[~np.isnan(column)]
        if field.codes:
            upper = list(map(float, field.codes))[:-1]
        else:
            edges = np.unique(np.quantile(taken, TENTHS)) if len(taken) else taken
            upper = [edge for edge in _plain(edges) if edge < taken.max()]
        found[field.name] = _bins(upper, column, target)
    return found | {"probability": _bins(TENTHS, probability, target)}


def _bins(upper: list[float], column: Floats, target: Floats) -> Bins:
    taken = ~np.isnan(column)
    place = np.searchsorted(np.array(upper, np.float32), column[taken])
    count, ill = np.bincount(place, minlength=len(upper) + 1), np.bincount(place, target[taken], len(upper) + 1)
    return Bins(
        upper=upper,
        share=[round(n / max(len(place), 1), 6) for n in count.tolist()],
        missing=round(float(1 - taken.mean()), 6),
        ill=[round(i / n, 6) if n else None for i, n in zip(ill.tolist(), count.tolist(), strict=True)],
    )


def background(rows: Floats, count: int) -> list[Row]:
    """Choose `count` of the rows, float32[N,13], that represent all: the background of Shapley values.

    Kernel herding (Chen, Welling and Smola, 2010) on the encoded rows: each chosen row minimises the maximum mean
    discrepancy between the chosen rows and all rows.
    """
    rows = rows[:5_000]  # their kernel takes 200 MB
    encoded = encode(rows, *statistics([rows])).astype(np.float64)
    squares = (encoded**2).sum(axis=1)
    distance = np.maximum(squares[:, None] + squares - 2 * encoded @ encoded.T, 0)
    kernel = np.exp(-distance / max(np.median(distance), np.finfo(float).tiny))
    wanted, chosen = kernel.mean(axis=1), list[int]()
    for taken in range(min(count, len(rows))):
        gain = wanted - kernel[:, chosen].sum(axis=1) / (taken + 1)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
    return [_row(rows[i]) for i in sorted(chosen)]


def checks(predict: Callable[[Floats], Floats]) -> Checks:
    """Make up patients, with and without missing values, and store the model's predictions for them.

    predict: float32[N,13], NaN = missing, to float32[N]
    """
    rng, count = np.random.default_rng(0), 32
    rows = np.empty((count, len(FIELDS)), np.float32)
    for i, field in enumerate(measurements()):
        codes = list(field.codes)
        rows[:, i] = rng.choice(codes, count) if codes else rng.uniform(field.low, field.high, count).round(1)
        if field.nullable:
            rows[rng.random(count) < 0.2, i] = np.nan
    return Checks(rows=[_row(row) for row in rows], probabilities=predict(rows).tolist())


def _row(values: Floats) -> Row:
    return [None if np.isnan(value) else value for value in _plain(values)]


def _plain(values: Floats) -> list[float]:
    """float32 as the shortest decimals that round to them: 2.3, not 2.299999952316284."""
    return [float(str(value)) for value in values.astype(np.float32)]
