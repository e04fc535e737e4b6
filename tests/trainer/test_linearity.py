"""How far a network is from a logistic regression."""

from typing import Any

import numpy as np
import pytest

from patient.encoding import Floats, encode, layout, statistics
from patient.record import FIELDS
from trainer.dataset import Dataset
from trainer.linearity import LINEAR, Linearity, domain_rows, input_names, measure_linearity


def measured(data: Dataset, bias: float, activation: str = "relu") -> tuple[list[Floats], Linearity]:
    """Of a random network whose hidden units start at this bias."""
    rng, width, hidden = np.random.default_rng(0), layout().width, 16
    kernels: list[Floats] = [rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((width, hidden), (hidden, 1))]
    weights: list[Floats] = [kernels[0], np.full(hidden, bias, np.float32), kernels[1], np.zeros(1, np.float32)]
    mean, std = statistics([data.rows])
    return weights, measure_linearity(weights, mean, std, activation, data.rows)


def sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


def test_a_network_whose_units_are_all_on_is_a_logistic_regression(cleveland: Dataset) -> None:
    """The coefficients, from outside: they answer as the network does."""
    weights, found = measured(cleveland, 50)
    assert found.is_linear
    assert (found.training.switching, found.domain.switching) == (0, 0)
    assert found.r2 == pytest.approx(1)
    assert (found.training.rows, found.domain.rows) == (303, 200_000)
    inputs = encode(cleveland.rows, *statistics([cleveland.rows]))
    expected = (np.maximum(inputs @ weights[0] + weights[1], 0) @ weights[2])[:, 0]
    linear = inputs @ np.array([found.coefficients[name] for name in input_names()]) + found.constant
    assert sigmoid(linear) == pytest.approx(sigmoid(expected), abs=1e-4)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_network_that_bends_is_found_out(cleveland: Dataset, activation: str) -> None:
    _, found = measured(cleveland, 0, activation)
    assert not found.is_linear
    assert found.training.largest > 0.02 > LINEAR
    assert found.training.percentile_99 <= found.training.largest
    assert found.r2 < 0.999
    assert (found.training.switching > 0.9) == (activation == "relu")


def test_the_made_up_rows_are_all_over_the_valid_domain() -> None:
    """Each code occurs, and so does a missing value where one may be."""
    rows = domain_rows(2000)
    assert np.isnan(rows).any(axis=0).tolist() == [name not in ("age", "sex") for name in FIELDS]
    columns = layout()
    for place, code in zip(columns.onehot, columns.codes, strict=True):
        assert (rows[:, place] == code).sum() > 20


def test_the_29_inputs_have_names() -> None:
    names = input_names()
    assert len(set(names)) == 29
    assert names[0] == "age"
    assert "cp = 4" in names
