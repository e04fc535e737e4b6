"""Validate a finished model on other patients, and recalibrate it to them."""

import datetime
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from patient.encoding import Floats
from patient.record import FIELDS
from trainer.dataset import Dataset, DatasetError
from trainer.export import save
from trainer.metrics import Doubles, Interval, interval, score, scores
from trainer.promote import ExportedModel

CALIBRATION = LogisticRegression(C=np.inf, tol=1e-8)  # without a penalty


@dataclass(frozen=True)
class Validation:
    """The performance of a finished model on a table that it was not trained on."""

    scores: dict[str, float]
    intervals: dict[str, Interval]
    intercept: float  # of the log-odds with the slope fixed at 1; 0 is right, above 0 the estimates are too low
    slope: float  # of the log-odds; 1 is right, below 1 the estimates are too extreme
    recalibrated: float  # log loss after fitting both to these patients, cross-validated
    line: tuple[float, float]  # intercept and slope fitted together, which recalibration applies
    missing: dict[str, float]  # share of missing values by field


def validate(model: ExportedModel, rows: Floats, target: Floats) -> Validation:
    """Score the unchanged model; `rows` float32[N,13], NaN = missing, `target` float32[N] of 0 and 1.

    Raises DatasetError for fewer than two patients of either class.
    """
    smaller_class = int(min(target.sum(), len(target) - target.sum()))
    if smaller_class < 2:
        raise DatasetError("a validation needs at least two patients with the disease, and two without")
    probability = model.predict(rows)
    odds = logit(probability)
    folds = StratifiedKFold(min(10, smaller_class), shuffle=True, random_state=0)
    refit = cross_val_predict(CALIBRATION, odds[:, None], target, cv=folds, method="predict_proba")[:, 1]
    line = calibration_line(odds, target)
    return Validation(
        scores=scores(target, probability, model.metadata.threshold),
        intervals={name: interval(target, probability[None], name) for name in ("log_loss", "auc", "brier")},
        intercept=calibration_intercept(odds, target),
        slope=line[1],
        recalibrated=score("log_loss", target, refit.astype(np.float32)),
        line=line,
        missing=dict(zip(FIELDS, np.isnan(rows).mean(axis=0).tolist(), strict=True)),
    )


def logit(probability: Floats) -> Doubles:
    p = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    odds: Doubles = np.log(p / (1 - p))
    return odds


def calibration_line(odds: Doubles, target: Floats) -> tuple[float, float]:
    """Fit the logistic regression of the target on the model's log-odds (Cox, 1958): intercept and slope."""
    fitted = clone(CALIBRATION).fit(odds[:, None], target)
    return float(fitted.intercept_[0]), float(fitted.coef_[0, 0])


def calibration_intercept(odds: Doubles, target: Floats) -> float:
    """Fit the intercept alone, by Newton's method; the slope stays 1, which scikit-learn cannot do."""
    intercept = 0.0
    for _ in range(25):
        p = 1 / (1 + np.exp(-odds - intercept))
        intercept += float((target - p).sum() / (p * (1 - p)).sum())
    return intercept


def report(found: Validation, version: str, data: Dataset) -> str:
    missing = ", ".join(f"{name} {share:.0%}" for name, share in found.missing.items() if share)
    values = {
        name.replace("_", " "): f"{value:.4f}  (95 % {low:.4f} to {high:.4f})"
        for name, (value, low, high) in found.intervals.items()
    } | {
        "calibration intercept": f"{found.intercept:+.3f}  (0 is right; above 0 the estimates are too low)",
        "calibration slope": f"{found.slope:.3f}  (1 is right; below 1 the estimates are too extreme)",
        "missing": missing or "nothing",
    }
    better = found.scores["log_loss"] - found.recalibrated
    advice = f"{better:.4f} better; --recalibrate writes that model" if better > 0 else "no better, so keep the model"
    listed = "\n".join(f"  {name:<22} {value}" for name, value in values.items())
    return f"""\
Version {version} on {len(data)} patients of {data.name}, of whom {int(data.target.sum())} are diseased
{listed}
Recalibrated to these patients its log loss would be {found.recalibrated:.4f} (cross-validated): {advice}"""


def recalibrate(model: ExportedModel, found: Validation, data: Dataset, models: Path) -> Path:
    """Apply `found.line` to the log-odds, in the last layer, and write the model as the next version."""
    intercept, slope = found.line
    proto = onnx.load_from_string(model.content)
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    for operation, shift in (("MatMul", 0.0), ("Add", intercept)):
        last = [node for node in proto.graph.node if node.op_type == operation][-1]
        tensor = next(stored[name] for name in last.input if name in stored)
        moved = (onnx.numpy_helper.to_array(tensor) * slope + shift).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(moved, tensor.name))
    old = model.metadata
    how = {"recalibrated_from": old.version, "intercept": intercept, "slope": slope}
    how |= {"file": data.name, "sha256": data.sha256, "rows": len(data)}
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    text = f"""# Heart disease, version {{version}}

Version {old.version}, recalibrated: its log-odds times {slope:.4f} plus {intercept:.4f}. Both numbers were
fitted to the {len(data)} patients of {data.name} (SHA-256 `{data.sha256}`). Log loss on these patients:
{found.scores["log_loss"]:.4f} before, {found.recalibrated:.4f} after, cross-validated.
For everything else see the card of version {old.version}.
"""
    return save(proto, old.model_copy(update={"created": created, "promotion": how}), text, {}, models)
