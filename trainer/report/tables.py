"""Format the model card's tables as Markdown."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from patient.encoding import Floats
from patient.record import FIELDS, measurements
from trainer.cross_validation import NETWORK, CrossValidation
from trainer.metrics import METRICS, Interval, interval, spread

REFERENCE = "logistic regression"  # the model that all others are compared with


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table; the first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def show(value: Interval, digits: int = 3, sign: str = "") -> str:
    """Format a value with its interval; NaN is "unknown"."""
    if np.isnan(value.value):
        return "unknown"
    low, high = (f"{bound:{sign}.{digits}f}" for bound in value[1:])
    return f"{value.value:{sign}.{digits}f} ({low} to {high})"


def score_table(validation: CrossValidation, threshold: float) -> str:
    """Every model's metrics: mean and standard deviation over the repeats."""
    rows = []
    for name, probability in validation.probability.items():
        found = spread(validation.target, probability, threshold).values()
        rows.append([name, *(f"{mean:.3f}" + ("" if np.isnan(sd) else f" ± {sd:.3f}") for mean, sd in found)])
    return table(["", *METRICS.values()], rows)


def difference_table(validation: CrossValidation) -> str:
    """Every model minus REFERENCE, with 95 % intervals; empty without the reference."""
    models = validation.probability
    if REFERENCE not in models:
        return ""
    metrics, rows = ("log_loss", "auc", "brier"), []
    for name in [title for title in models if title != REFERENCE]:
        gaps = (interval(validation.target, models[name], m, reference=models[REFERENCE]) for m in metrics)
        rows.append([name, *(show(gap, sign="+") for gap in gaps)])
    return table(["", *(METRICS[metric] for metric in metrics)], rows)


def groups(rows: Floats) -> dict[str, NDArray[np.bool_]]:
    """Membership by group, float32[N,13] to bool[N] each: everybody, each sex and three age groups."""
    sex, age = rows[:, FIELDS.index("sex")], rows[:, FIELDS.index("age")]
    codes = measurements()[FIELDS.index("sex")].codes
    return {
        "everybody": np.ones(len(rows), bool),
        **{label: sex == code for code, label in codes.items()},
        "under 50 years": age < 50,
        "50 to 59 years": (age >= 50) & (age < 60),
        "60 years and older": age >= 60,
    }


def group_table(validation: CrossValidation, threshold: float) -> str:
    """The network's scores in each group, with 95 % intervals."""
    metrics = ("log_loss", "auc", "sensitivity", "specificity")
    rows, probability = [], validation.probability[NETWORK]
    for name, members in groups(validation.rows).items():
        target, theirs = validation.target[members], probability[:, members]
        if len(target):
            scores = [show(interval(target, theirs, metric, threshold), digits=2) for metric in metrics]
            rows.append([name, f"{len(target)}", f"{target.sum():.0f}", *scores])
    return table(["", "patients", "diseased", *(METRICS[metric] for metric in metrics)], rows)


def missing_table(validation: CrossValidation) -> str:
    """Each model's log loss when the held-out patients lack these fields."""
    models = list(next(iter(validation.missing.values()), {}))
    rows = [[lost, *(f"{losses[name]:.4f}" for name in models)] for lost, losses in validation.missing.items()]
    return table(["missing", *models], rows)


def patient_table(validation: CrossValidation) -> str:
    """Describe the healthy and the diseased patients: mean and deviation of numbers, count and share of codes."""
    parts = [validation.rows[validation.target == label] for label in (0, 1)]
    rows = []
    for column, field in enumerate(measurements()):
        values = [part[~np.isnan(part[:, column]), column] for part in parts]
        missing = f"{sum(len(part) - len(value) for part, value in zip(parts, values, strict=True))}"
        if not field.codes:
            numbers = [f"{v.mean():.1f} ± {v.std():.1f}" if len(v) else "unknown" for v in values]
            rows.append([f"{field.title}, {field.unit}", *numbers, missing])
            continue
        rows.append([field.title, "", "", missing])
        for code, label in field.codes.items():
            counts = [int((value == code).sum()) for value in values]
            shares = (f"{n} ({100 * n / max(1, len(v)):.0f} %)" for n, v in zip(counts, values, strict=True))
            rows.append([f"- {label}", *shares, ""])
    return table(["", f"healthy ({len(parts[0])})", f"diseased ({len(parts[1])})", "missing"], rows)
