"""What the model file tells of the rows that trained it is true, and is no more than it says."""

import numpy as np
import pytest

from patient.artefact import Metadata
from patient.encoding import Floats
from patient.record import FIELDS, PatientRecord
from tests.patient.test_artefact import metadata
from trainer.dataset import Dataset
from trainer.fit import Fitted
from trainer.training_summary import background, bins, checks


def _rows(values: list[list[float | None]]) -> Floats:
    return np.array(values, np.float32)


def test_bins_count_the_rows(cleveland: Dataset, fitted: Fitted) -> None:
    """Each share is what a count of the values between two ends says, and so is the share of the diseased."""
    told = fitted.predict(cleveland.rows)
    found = bins(cleveland.rows, cleveland.target, told)
    assert [*found] == [*FIELDS, "probability"]
    for name, column in [*zip(FIELDS, cleveland.rows.T, strict=True), ("probability", told)]:
        taken = ~np.isnan(column)
        ends = [-np.inf, *np.array(found[name].upper, np.float32), np.inf]
        assert found[name].missing == pytest.approx(1 - taken.mean(), abs=1e-6)
        for low, high, share, ill in zip(ends[:-1], ends[1:], found[name].share, found[name].ill, strict=True):
            inside = (column > low) & (column <= high)
            assert share == pytest.approx(inside.sum() / taken.sum(), abs=1e-6)
            assert ill == (pytest.approx(cleveland.target[inside].mean(), abs=1e-6) if inside.any() else None)


def test_a_code_has_a_bin_of_its_own(cleveland: Dataset) -> None:
    """Also one that never occurs; and numbers have tenths, fewer where many rows share a value."""
    found = bins(cleveland.rows, cleveland.target, cleveland.target)
    assert found["cp"].upper == [0, 1, 2, 3]
    assert found["cp"].share[0] == 0
    assert found["chol"].share == pytest.approx([0.1] * 10, abs=0.01)
    assert len(found["oldpeak"].share) < 10


def test_a_field_that_nobody_has_is_all_missing(cleveland: Dataset) -> None:
    """As in other hospitals' tables."""
    rows = cleveland.rows.copy()
    rows[:, [FIELDS.index("chol"), FIELDS.index("ca")]] = np.nan
    found = bins(rows, cleveland.target, cleveland.target)
    assert (found["chol"].missing, found["ca"].missing) == (1, 1)
    assert sum(found["chol"].share) + sum(found["ca"].share) == 0


def test_the_background_is_rows_that_are_spread_as_all(cleveland: Dataset, fitted: Fitted) -> None:
    """True rows, none twice, whose mean log-odds lie nearer to that of all than those of most random choices."""
    chosen = _rows(background(cleveland.rows, 32))
    among = {row.tobytes() for row in cleveland.rows}
    assert len({row.tobytes() for row in chosen} & among) == 32

    def log_odds(rows: Floats) -> float:
        told = fitted.predict(rows).astype(np.float64)
        return float(np.log(told / (1 - told)).mean())

    rng = np.random.default_rng(1)
    off = [abs(log_odds(rng.choice(cleveland.rows, 32, replace=False)) - log_odds(cleveland.rows)) for _ in range(100)]
    assert abs(log_odds(chosen) - log_odds(cleveland.rows)) < np.median(off)


def test_a_background_is_no_longer_than_the_table_and_may_be_none(cleveland: Dataset) -> None:
    """Of three equal rows at most three; asked for none, none."""
    same = np.repeat(cleveland.rows[:1], 3, axis=0)
    assert len(background(same, 32)) == 3
    assert background(cleveland.rows, 0) == []


def test_checks_are_what_the_network_answers_to_patients_that_nobody_is(cleveland: Dataset, fitted: Fitted) -> None:
    """Valid records, some with gaps; no row of the cohort among them."""
    made = checks(fitted.predict)
    records = [PatientRecord.model_validate(dict(zip(FIELDS, row, strict=True))) for row in made.rows]
    assert any(record.missing() for record in records)
    assert not {row.tobytes() for row in _rows(made.rows)} & {row.tobytes() for row in cleveland.rows}
    assert fitted.predict(_rows(made.rows)).tolist() == made.probabilities


def test_all_of_it_survives_the_model_file(cleveland: Dataset, fitted: Fitted) -> None:
    """As strings, with nulls; and a file from before has none of it."""
    extra = {
        "checks": checks(fitted.predict),
        "bins": bins(cleveland.rows, cleveland.target, cleveland.target),
        "background": background(cleveland.rows, 8),
    }
    written = metadata().model_copy(update=extra)
    assert Metadata.from_strings(written.to_strings()) == written
    before = {key: value for key, value in written.to_strings().items() if key not in extra}
    assert (Metadata.from_strings(before).bins, Metadata.from_strings(before).checks.rows) == ({}, [])
