"""Every patient is predicted by models fitted without that patient, on the same folds for every model."""

import numpy as np
import pytest

from patient.encoding import Floats
from trainer.baselines import BASELINES, fit_all, logistic_regression
from trainer.cross_validation import (
    LACKING,
    LECTURE,
    NETWORK,
    RETRAINED,
    cross_validate_models,
    stratified_folds,
    without_fields,
)
from trainer.dataset import Dataset
from trainer.metrics import score
from trainer.readers import DatasetError
from trainer.recipe import Recipe


def test_every_row_is_held_out_once_a_repeat_and_never_trains_then(cleveland: Dataset) -> None:
    """No patient is predicted by a model that has seen that patient, and none is left out."""
    folds = stratified_folds(cleveland.target, 3, 10, 0)
    assert len(folds.test) == len(folds.train) == 30
    for repeat in range(3):
        tests = folds.test[repeat * 10 : repeat * 10 + 10]
        assert np.array_equal(np.sort(np.concatenate(tests)), np.arange(303))
    for train, test in zip(folds.train, folds.test, strict=True):
        assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(303))


def test_folds_are_stratified_and_seeded(cleveland: Dataset) -> None:
    """Sizes differ by one row at most, and every fold has its share of disease."""
    folds = stratified_folds(cleveland.target, 2, 10, 7)
    assert {len(test) for test in folds.test} == {30, 31}
    assert {int(cleveland.target[test].sum()) for test in folds.test} <= {13, 14}
    again = stratified_folds(cleveland.target, 2, 10, 7)
    assert all(np.array_equal(a, b) for a, b in zip(folds.test, again.test, strict=True))
    assert not np.array_equal(folds.test[0], folds.test[10])


def test_more_folds_than_rows_of_a_class_are_refused() -> None:
    """Some fold would have none of it."""
    with pytest.raises(DatasetError, match="4 folds need 4 patients with and 4 without disease; the table has 3 and 9"):
        stratified_folds(np.array([0] * 9 + [1] * 3, np.float32), 1, 4, 0)


def test_every_model_is_cross_validated_on_the_same_folds(cleveland: Dataset) -> None:
    """Network, lecture's recipe and baselines on the same folds; curves; and what missing values cost."""
    folds, told = stratified_folds(cleveland.target, 1, 2, 0), set()

    def tick(name: str, done: int, total: int) -> None:
        assert 1 <= done <= total
        told.add(name)

    evidence = cross_validate_models(cleveland.rows, cleveland.target, Recipe(epochs=60), folds, tick)
    assert set(evidence.probability) == {NETWORK, LECTURE, *BASELINES} <= told
    losses = {name: score("log_loss", cleveland.target, found) for name, found in evidence.probability.items()}
    assert all(found.shape == (1, 303) for found in evidence.probability.values())
    assert losses["majority class"] == pytest.approx(0.69, abs=0.005)
    assert max(losses[NETWORK], losses["logistic regression"], losses["random forest"]) < 0.5
    assert losses[LECTURE] > losses[NETWORK]
    assert evidence.learning.shape == (2, 60)
    assert evidence.learning[0, -1] < evidence.learning[0, 0]
    assert list(evidence.missing) == ["nothing", *(", ".join(fields) for fields in LACKING[1:])]
    for lacking in evidence.missing.values():
        assert set(lacking) == {NETWORK, RETRAINED, "logistic regression"}
    assert evidence.missing["nothing"][NETWORK] == pytest.approx(losses[NETWORK])
    assert evidence.missing["ca, thal"][NETWORK] > losses[NETWORK]


def test_without_fields_copies_the_rows(cleveland: Dataset) -> None:
    """The fields are missing in every row of the copy."""
    before = cleveland.rows.copy()
    assert np.isnan(without_fields(cleveland.rows, ["ca", "thal"])[:, [11, 12]]).all()
    assert np.array_equal(before, cleveland.rows, equal_nan=True)


def test_logistic_regression_sees_the_blanked_rows_that_the_network_sees(cleveland: Dataset) -> None:
    """It loses less where they are missing, and is scikit-learn's own where nothing is blanked."""
    rows, target = cleveland.rows, cleveland.target
    folds = stratified_folds(target, 1, 3, 0)
    train, test = folds.train[0], folds.test[0]
    table = without_fields(rows[test], ["ca", "thal"])

    def loss(recipe: Recipe, held: Floats) -> float:
        (found,) = logistic_regression(rows[train], target[train], [held], recipe)
        return score("log_loss", target[test], found)

    assert loss(Recipe(), table) < loss(Recipe(blank=0), table) - 0.005
    assert loss(Recipe(blank=0), rows[test]) < 0.45


@pytest.mark.parametrize("name", ["random forest", "gradient boosting"])
def test_trees_choose_their_settings_on_the_training_rows_alone(cleveland: Dataset, name: str) -> None:
    """They are no straw men: untuned boosting lost 0.1 more. What they are tested on changes nothing."""
    rows, target = cleveland.rows, cleveland.target
    folds = stratified_folds(target, 1, 3, 0)
    pairs = zip(folds.train, folds.test, strict=True)
    parts = [(rows[train], target[train], [rows[test], rows[test][:5]]) for train, test in pairs]
    found = np.zeros(len(target), np.float32)
    for test, (whole, few) in zip(folds.test, fit_all(BASELINES[name], parts, Recipe()), strict=True):
        found[test] = whole
        assert np.array_equal(few, whole[:5])
    assert score("log_loss", target, found) < 0.45
