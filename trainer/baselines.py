"""Baselines for the network: scikit-learn models."""

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV

from patient.encoding import Floats, encode, layout, statistics

# Rows and target to train on, and tables to predict (float32[N,13], NaN = missing), to a float32[N] for each table.
Baseline = Callable[[Floats, Floats, list[Floats]], list[Floats]]


def majority_class(_rows: Floats, target: Floats, tables: list[Floats]) -> list[Floats]:
    """Predict the training rows' share of disease for every row."""
    return [np.full(len(table), target.mean(), np.float32) for table in tables]


def logistic_regression(rows: Floats, target: Floats, tables: list[Floats]) -> list[Floats]:
    """Fit the 29 encoded inputs, missing ones imputed by the training mean; C is chosen by inner 5-fold CV."""
    mean, std = statistics([rows])
    means = _impute(rows, mean, std, np.zeros(layout().width, np.float32)).mean(axis=0)
    model = LogisticRegressionCV(
        Cs=10, cv=5, scoring="neg_log_loss", max_iter=1000, l1_ratios=(0,), use_legacy_attributes=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the weakest penalties do not converge, and are not chosen
        model.fit(_impute(rows, mean, std, means), target)
    return [_positive(model, _impute(table, mean, std, means)) for table in tables]


def random_forest(rows: Floats, target: Floats, tables: list[Floats]) -> list[Floats]:
    """Fit 300 trees, which handle missing values."""
    model = RandomForestClassifier(300, random_state=0, n_jobs=-1).fit(rows, target)
    return [_positive(model, table) for table in tables]


def gradient_boosting(rows: Floats, target: Floats, tables: list[Floats]) -> list[Floats]:
    """Fit histogram gradient boosting with scikit-learn's defaults; it handles missing values."""
    model = HistGradientBoostingClassifier(random_state=0).fit(rows, target)
    return [_positive(model, table) for table in tables]


BASELINES: dict[str, Baseline] = {
    "majority class": majority_class,
    "logistic regression": logistic_regression,
    "random forest": random_forest,
    "gradient boosting": gradient_boosting,
}


def _positive(model: LogisticRegressionCV, rows: Floats) -> Floats:
    probability: Floats = model.predict_proba(rows)[:, 1].astype(np.float32)
    return probability


def _impute(rows: Floats, mean: Floats, std: Floats, means: Floats) -> Floats:
    """Encode, with `means` in the columns of every missing field."""
    columns = layout()
    missing = np.isnan(rows[:, np.concatenate([columns.numeric, columns.onehot])])
    return np.where(missing, means, encode(rows, mean, std))
