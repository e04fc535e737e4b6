"""Baselines for the network: scikit-learn models."""

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV

from patient.encoding import Floats, encode, layout, statistics

# Rows and target to train on, and tables to predict (float32[N,13], NaN = missing), to a float32[N] for each table.
Baseline = Callable[[Floats, Floats, list[Floats]], list[Floats]]


def logistic_regression(rows: Floats, target: Floats, tables: list[Floats]) -> list[Floats]:
    """Fit the 29 encoded inputs, missing ones imputed by the training mean; C is chosen by inner 5-fold CV."""
    mean, std = statistics([rows])
    means = encode(rows, mean, std).mean(axis=0)
    columns = layout()
    sources = np.concatenate([columns.numeric, columns.onehot])

    def impute(table: Floats) -> Floats:
        return np.where(np.isnan(table[:, sources]), means, encode(table, mean, std))

    model = LogisticRegressionCV(
        Cs=10, cv=5, scoring="neg_log_loss", max_iter=1000, l1_ratios=(0,), use_legacy_attributes=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the weakest penalties do not converge, and are not chosen
        return _baseline(model)(impute(rows), target, [impute(table) for table in tables])


def _baseline(model: ClassifierMixin) -> Baseline:
    def fit(rows: Floats, target: Floats, tables: list[Floats]) -> list[Floats]:
        model.fit(rows, target)
        return [model.predict_proba(table)[:, 1].astype(np.float32) for table in tables]

    return fit


BASELINES: dict[str, Baseline] = {
    "majority class": _baseline(DummyClassifier(strategy="prior")),
    "logistic regression": logistic_regression,
    "random forest": _baseline(RandomForestClassifier(300, random_state=0, n_jobs=-1)),
    "gradient boosting": _baseline(HistGradientBoostingClassifier(random_state=0)),
}
