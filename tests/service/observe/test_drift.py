"""Patients are counted in the bins of the model's training rows, and those of another model never mix in."""

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
    """The model that serves, with other bins or another version."""

    def changed(**metadata: object) -> Predictor:
        return dataclasses.replace(predictor, metadata=predictor.metadata.model_copy(update=metadata))

    return changed


def row(age: float) -> bytes:
    """A patient of whom nothing else is known."""
    values = np.full(len(FIELDS), np.nan, np.float32)
    values[0] = age
    return values.tobytes()


def alike(count: int, value: float) -> Floats:
    """So many patients, of whom every measurement is this."""
    return np.full((len(FIELDS), count), value, np.float32)


ENDS = st.lists(st.floats(-5, 300, width=32), max_size=MAX_BINS - 1, unique=True).map(sorted)
VALUES = st.lists(st.one_of(st.just(np.nan), st.floats(-5, 300, width=32)), min_size=1, max_size=60)


@given(ENDS, VALUES)
def test_every_cell_is_counted_once_where_a_search_finds_it(
    predictor: Predictor, ends: list[float], cells: list[float]
) -> None:
    """In the bin that the model file means, or as missing."""
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


def test_the_training_rows_lie_as_the_model_file_says(predictor: Predictor) -> None:
    """Bins and shares of the file are those of its own data."""
    spread = DriftHistogram(predictor.metadata)
    assert spread.known == list(FEATURES)
    for name in spread.known:
        assert sum(spread.expected(name)) == pytest.approx(1, abs=1e-5)
        assert len(spread.labels(name)) == len(set(spread.labels(name))) == len(spread.expected(name))
    assert spread.labels("thal") == ["3", "6", "7", "missing"]
    assert spread.labels("probability")[-2:] == ["+Inf", "missing"]


def test_a_model_file_without_bins_still_tells_what_is_missing(give: Give) -> None:
    """Older versions do not say how their training rows lay; the probability has tenths of its own."""
    metrics, model = Metrics(), give(bins={})
    metrics.set_model(model)
    metrics.add_drift(model, DriftHistogram(model.metadata).count(alike(3, np.nan), np.full(3, 0.55)))
    read = metrics.snapshot()
    assert metrics.drift
    assert metrics.drift.known == ["probability"]
    assert metrics.drift.cells(read.drift, "probability")[5] == 3
    assert read.cells(MISSING)[:, 0].tolist() == [3] * len(FIELDS)


def test_more_bins_than_there_is_room_for_are_not_watched(give: Give) -> None:
    """In one measurement; the others are."""
    wide = Bins(
        upper=[float(end) for end in range(MAX_BINS)], share=[1 / (MAX_BINS + 1)] * (MAX_BINS + 1), missing=0, ill=[]
    )
    metadata: Metadata = give().metadata
    assert "age" not in DriftHistogram(give(bins=metadata.bins | {"age": wide}).metadata).known
    assert "chol" in DriftHistogram(give(bins=metadata.bins | {"age": wide}).metadata).known


def test_another_version_is_counted_anew_and_an_old_models_rows_no_more(give: Give) -> None:
    """A table that began with the old one may still be on its way."""
    old, new = give(version="7"), give(version="8")
    metrics = Metrics()
    metrics.set_model(old)
    spread = DriftHistogram(old.metadata)
    metrics.add_drift(old, spread.count(alike(5, 60.0), np.full(5, 0.5)))
    assert sum(spread.cells(metrics.snapshot().drift, "age")) == 5
    metrics.set_model(give(version="7"))  # loaded again: the same bins
    assert sum(spread.cells(metrics.snapshot().drift, "age")) == 5
    metrics.set_model(new)
    metrics.add_drift(old, spread.count(alike(5, 60.0), np.full(5, 0.5)))
    assert sum(spread.cells(metrics.snapshot().drift, "age")) == 0


def test_what_waits_to_be_counted_goes_to_the_model_that_scored_it(give: Give) -> None:
    """Not to the one that came a moment later."""

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


def test_rows_are_put_into_bins_a_moment_later_by_themselves(give: Give) -> None:
    """Nobody need ask for it: another worker reads the page alone."""

    async def work() -> None:
        model, metrics = give(), Metrics()
        metrics.set_model(model)
        metrics.record_scored(model, [row(50)], [0.25])
        before = metrics._counters.array.sum()
        while metrics._counters.array.sum() == before:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(work(), 30))
