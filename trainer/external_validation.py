"""Validate a finished model on other patients, and recalibrate it to them."""

import datetime
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from patient.encoding import Floats
from patient.record import FIELDS
from trainer.cross_validation import stratified_folds
from trainer.dataset import Dataset
from trainer.export import save
from trainer.metrics import Interval, interval, score, scores
from trainer.promote import ExportedModel


@dataclass(frozen=True)
class Validation:
    """The performance of a finished model on a table that it was not trained on.

    intercept: of the log-odds with the slope fixed at 1; 0 is right on average, above 0 the estimates are too low
    slope: of the log-odds; 1 is right, below 1 the estimates are too extreme
    recalibrated: log loss after fitting both to these patients, cross-validated
    line: intercept and slope fitted together, which recalibration applies
    missing: share of missing values by field
    """

    scores: dict[str, float]
    intervals: dict[str, Interval]
    intercept: float
    slope: float
    recalibrated: float
    line: tuple[float, float]
    missing: dict[str, float]


def validate(model: ExportedModel, rows: Floats, target: Floats) -> Validation:
    """Score the unchanged model; `rows` float32[N,13], NaN = missing, `target` float32[N] of 0 and 1."""
    probability = model.predict(rows)
    odds = logit(probability)
    offset, _ = calibration_line(odds, target, slope=False)
    intercept, slope = calibration_line(odds, target)
    refit = np.empty_like(odds)
    folds = stratified_folds(target, 1, min(10, int(min(target.sum(), len(target) - target.sum()))), 0)
    for train, test in zip(folds.train, folds.test, strict=True):
        a, b = calibration_line(odds[train], target[train])
        refit[test] = a + b * odds[test]
    recalibrated = score("log_loss", target, (1 / (1 + np.exp(-refit))).astype(np.float32))
    shares = {name: float(share) for name, share in zip(FIELDS, np.isnan(rows).mean(axis=0), strict=True)}
    intervals = {name: interval(target, probability[None], name) for name in ("log_loss", "auc", "brier")}
    found = scores(target, probability, model.metadata.threshold)
    return Validation(found, intervals, offset, slope, recalibrated, (intercept, slope), shares)


def logit(probability: Floats) -> NDArray[np.float64]:
    p = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    odds: NDArray[np.float64] = np.log(p / (1 - p))
    return odds


def calibration_line(odds: NDArray[np.float64], target: Floats, slope: bool = True) -> tuple[float, float]:
    """Fit the logistic regression of the target on the model's log-odds (Cox, 1958): intercept and slope.

    Without `slope` the slope stays 1 and only the intercept is fitted.
    """
    line = np.array([0.0, 1.0])
    free = slice(0, 2 if slope else 1)
    design = np.column_stack([np.ones_like(odds), odds])
    for _ in range(25):
        p = 1 / (1 + np.exp(-design @ line))
        gradient = design.T @ (target - p)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        line[free] += np.linalg.solve(hessian[free, free], gradient[free])
    return float(line[0]), float(line[1])


def report(found: Validation, version: str, data: Dataset) -> str:
    lines = [f"Version {version} on {len(data)} patients of {data.name}, of whom {int(data.target.sum())} are diseased"]
    for name, (value, low, high) in found.intervals.items():
        lines.append(f"  {name.replace('_', ' '):<22} {value:.4f}  (95 % {low:.4f} to {high:.4f})")
    lines.append(
        f"  {'calibration intercept':<22} {found.intercept:+.3f}  (0 is right; above 0 the estimates are too low)"
    )
    lines.append(f"  {'calibration slope':<22} {found.slope:.3f}  (1 is right; below 1 the estimates are too extreme)")
    missing = ", ".join(f"{name} {share:.0%}" for name, share in found.missing.items() if share)
    lines.append(f"  {'missing':<22} {missing or 'nothing'}")
    better = found.scores["log_loss"] - found.recalibrated
    lines.append(
        f"Recalibrated to these patients its log loss would be {found.recalibrated:.4f} (cross-validated): "
        + (f"{better:.4f} better; --recalibrate writes that model" if better > 0 else "no better, so keep the model")
    )
    return "\n".join(lines)


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
    how = {
        "recalibrated_from": old.version,
        "intercept": intercept,
        "slope": slope,
        "file": data.name,
        "sha256": data.sha256,
        "rows": len(data),
    }
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    text = f"""# Heart disease, version {{version}}

Version {old.version}, recalibrated: its log-odds times {slope:.4f} plus {intercept:.4f}. Both numbers were
fitted to the {len(data)} patients of {data.name} (SHA-256 `{data.sha256}`). Log loss on these patients:
{found.scores["log_loss"]:.4f} before, {found.recalibrated:.4f} after, cross-validated.
For everything else see the card of version {old.version}.
"""
    return save(proto, old.model_copy(update={"created": created, "promotion": how}), text, {}, models)
