"""What the network has to beat: scikit-learn's models on the same folds."""

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV

from patient.encoding import Floats, encode, layout, statistics

# rows and target to train on, and tables to predict: float32[N,13] each, NaN = missing -> a float32[N] for each table
Baseline = Callable[[Floats, Floats, list[Floats]], list[Floats]]


def majority(_rows: Floats, target: Floats, tables: list[Floats]) -> list[Floats]:
    """The training rows' share of disease, for everybody."""
    return [np.full(len(table), target.mean(), np.float32) for table in tables]


def logistic_regression(rows: Floats, target: Floats, tables: list[Floats]) -> list[Floats]:
    """On the 29 encoded inputs, with the mean of the training rows for what is missing; C by inner 5-fold CV."""
    mean, std = statistics(rows)
    means = _without_gaps(rows, mean, std, np.zeros(layout().width, np.float32)).mean(axis=0)
    model = LogisticRegressionCV(
        Cs=10, cv=5, scoring="neg_log_loss", max_iter=1000, l1_ratios=(0,), use_legacy_attributes=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of the weakest penalties, which are not chosen
        model.fit(_without_gaps(rows, mean, std, means), target)
    return [_positive(model, _without_gaps(table, mean, std, means)) for table in tables]


def random_forest(rows: Floats, target: Floats, tables: list[Floats]) -> list[Floats]:
    """300 trees; they take missing values as they are."""
    model = RandomForestClassifier(300, random_state=0, n_jobs=-1).fit(rows, target)
    return [_positive(model, table) for table in tables]


def gradient_boosting(rows: Floats, target: Floats, tables: list[Floats]) -> list[Floats]:
    """scikit-learn's histogram gradient boosting with its defaults; it takes missing values as they are."""
    model = HistGradientBoostingClassifier(random_state=0).fit(rows, target)
    return [_positive(model, table) for table in tables]


BASELINES: dict[str, Baseline] = {
    "majority class": majority,
    "logistic regression": logistic_regression,
    "random forest": random_forest,
    "gradient boosting": gradient_boosting,
}


def _positive(model: LogisticRegressionCV, rows: Floats) -> Floats:
    probability: Floats = model.predict_proba(rows)[:, 1].astype(np.float32)
    return probability


def _without_gaps(rows: Floats, mean: Floats, std: Floats, means: Floats) -> Floats:
    """Encoded, with `means` in the columns of every missing field."""
    columns = layout()
    missing = np.isnan(rows[:, np.concatenate([columns.numeric, columns.onehot])])
    return np.where(missing, means, encode(rows, mean, std))
