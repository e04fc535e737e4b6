"""Scored records are counted in the bins of the model's training data, apart for each model."""

import asyncio
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patient.artefact import Bins, Metadata
from patient.encoding import Floats
from patient.record import FIELDS
from service.model.predictor import Predictor
from service.observe.drift import CELLS, FEATURES, MAX_BINS, DriftHistogram
from service.observe.metrics import MISSING, Metrics

Give = Callable[..., Predictor]


@pytest.fixture
def give(predictor: Predictor) -> Give:
    """Make copies of the model with other metadata."""

    def changed(**metadata: object) -> Predictor:
        return dataclasses.replace(predictor, metadata=predictor.metadata.model_copy(update=metadata))

    return changed


def row(age: float) -> bytes:
    """A record with an age and nothing else."""
    values = np.full(len(FIELDS), np.nan, np.float32)
    values[0] = age
    return values.tobytes()


def alike(count: int, value: float) -> Floats:
    """Columns of so many records, whose values are all the same."""
    return np.full((len(FIELDS), count), value, np.float32)


ENDS = st.lists(st.floats(-5, 300, width=32), max_size=MAX_BINS - 1, unique=True).map(sorted)
VALUES = st.lists(st.one_of(st.just(np.nan), st.floats(-5, 300, width=32)), min_size=1, max_size=60)


@given(ENDS, VALUES)
def test_every_value_is_counted_once_in_the_bin_of_searchsorted(
    predictor: Predictor, ends: list[float], cells: list[float]
) -> None:
    """A value lies where searchsorted puts it; NaN counts as missing."""
    metadata = predictor.metadata.model_copy(update={"bins": {"chol": Bins(upper=ends, share=[], missing=0, ill=[])}})
    column = np.array(cells, np.float32)
    columns = np.zeros((len(FIELDS), len(cells)), np.float32)
    columns[FIELDS.index("chol")] = column
    found = (
        DriftHistogram(metadata)
        .count(columns, np.full(len(cells), 0.5))
        .reshape(len(FEATURES), CELLS)[FIELDS.index("chol")]
    )
    there = column[~np.isnan(column)]
    expected = np.bincount(np.searchsorted(np.array(ends, np.float32), there, side="left"), minlength=len(ends) + 1)
    assert found[: len(ends) + 1].tolist() == expected.tolist()
    assert found[MAX_BINS] == len(column) - len(there)
    assert found.sum() == len(column)


def test_a_model_file_has_bins_and_shares_for_every_feature(predictor: Predictor) -> None:
    """The shares of each feature add up to 1, and its labels are distinct."""
    drift = DriftHistogram(predictor.metadata)
    assert drift.known == list(FEATURES)
    for name in drift.known:
        assert sum(drift.expected(name)) == pytest.approx(1, abs=1e-5)
        assert len(drift.labels(name)) == len(set(drift.labels(name))) == len(drift.expected(name))
    assert drift.labels("thal") == ["3", "6", "7", "missing"]
    assert drift.labels("probability")[-2:] == ["+Inf", "missing"]


def test_without_bins_in_the_model_file_missing_values_are_still_counted(give: Give) -> None:
    """Model files of older versions have none; the probability then has ten equal bins."""
    metrics, model = Metrics(), give(bins={})
    metrics.set_model(model)
    metrics.add_drift(model, DriftHistogram(model.metadata).count(alike(3, np.nan), np.full(3, 0.55)))
    read = metrics.snapshot()
    assert metrics.drift
    assert metrics.drift.known == ["probability"]
    assert metrics.drift.cells(read.drift, "probability")[5] == 3
    assert read.cells(MISSING)[:, 0].tolist() == [3] * len(FIELDS)


def test_a_feature_with_too_many_bins_is_not_counted(give: Give) -> None:
    """The other features are."""
    wide = Bins(
        upper=[float(end) for end in range(MAX_BINS)], share=[1 / (MAX_BINS + 1)] * (MAX_BINS + 1), missing=0, ill=[]
    )
    metadata: Metadata = give().metadata
    assert "age" not in DriftHistogram(give(bins=metadata.bins | {"age": wide}).metadata).known
    assert "chol" in DriftHistogram(give(bins=metadata.bins | {"age": wide}).metadata).known


def test_another_version_resets_the_bins_and_rows_of_the_old_one_no_longer_count(give: Give) -> None:
    """A table that the old model scores may end after the reload."""
    old, new = give(version="7"), give(version="8")
    metrics = Metrics()
    metrics.set_model(old)
    drift = DriftHistogram(old.metadata)
    metrics.add_drift(old, drift.count(alike(5, 60.0), np.full(5, 0.5)))
    assert sum(drift.cells(metrics.snapshot().drift, "age")) == 5
    metrics.set_model(give(version="7"))  # loaded again: the same bins
    assert sum(drift.cells(metrics.snapshot().drift, "age")) == 5
    metrics.set_model(new)
    metrics.add_drift(old, drift.count(alike(5, 60.0), np.full(5, 0.5)))
    assert sum(drift.cells(metrics.snapshot().drift, "age")) == 0


def test_rows_that_wait_to_be_binned_count_for_the_model_that_scored_them(give: Give) -> None:
    """A reload bins them first."""

    async def work() -> tuple[float, float]:
        old, new = give(version="7"), give(version="8")
        metrics = Metrics()
        metrics.set_model(old)
        metrics.record_scored(old, [row(50)], [0.25])
        metrics.set_model(new)
        metrics.record_scored(old, [row(50)], [0.25])
        metrics.record_scored(new, [row(50) + row(51)], [0.25, 0.75])
        read = metrics.snapshot()
        assert metrics.drift
        return sum(metrics.drift.cells(read.drift, "age")), read.total(MISSING, "chol")

    assert asyncio.run(work()) == (2, 3)


def test_scored_rows_are_binned_within_a_moment_without_a_scrape(give: Give) -> None:
    """Other workers read only the shared memory."""

    async def work() -> None:
        model, metrics = give(), Metrics()
        metrics.set_model(model)
        metrics.record_scored(model, [row(50)], [0.25])
        before = metrics._counters.array.sum()
        while metrics._counters.array.sum() == before:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(work(), 30))
