"""Validate a finished model on other patients, and recalibrate it to them."""

import datetime
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from patient.artefact import ArtefactError, Metadata
from patient.encoding import Floats
from patient.record import FIELDS
from trainer import training_summary
from trainer.dataset import Dataset, DatasetError
from trainer.export import save
from trainer.metrics import METRICS, Doubles, Interval, interval, score, scores, weights
from trainer.promote import ExportedModel, cpu_session, predict
from trainer.recalibration import LEAST, LEAST_FOR_SLOPE, SHIFT_DEVIATION, SLOPE_DEVIATION, Offer, offer
from trainer.report import tables

DECISIONS = 0.1, 0.2, 0.3, 0.4, 0.5, 0.6  # thresholds of the net benefit
CALIBRATION = LogisticRegression(C=np.inf, tol=1e-8)  # without a penalty


@dataclass(frozen=True)
class Validation:
    """The performance of a finished model on a table that it was not trained on."""

    scores: dict[str, float]
    intervals: dict[str, Interval]
    intercept: float  # of the log-odds with the slope fixed at 1; 0 is right, above 0 the estimates are too low
    slope: float  # of the log-odds; 1 is right, below 1 the estimates are too extreme
    offer: Offer | None  # a recalibration to these patients; None for too few
    missing: dict[str, float]  # share of missing values by field
    ratio: Interval  # observed over expected: how many are diseased for each that the model expects; 1 is right
    threshold: float
    net_benefit: dict[float, tuple[float, float]]  # by threshold, of the model and of treating everybody
    same_for_all: float  # log loss of predicting the share of the diseased for everybody


def validate(model: ExportedModel, rows: Floats, target: Floats, threshold: float | None = None) -> Validation:
    """Score the unchanged model; `rows` float32[N,13], NaN = missing, `target` float32[N] of 0 and 1.

    threshold: for accuracy, sensitivity and specificity; by default the model's own

    Raises DatasetError for fewer than two patients of either class.
    """
    smaller_class = int(min(target.sum(), len(target) - target.sum()))
    if smaller_class < 2:
        raise DatasetError("a validation needs at least two patients with the disease, and two without")
    probability = model.predict(rows)
    odds = logit(probability)
    threshold = threshold or model.metadata.threshold
    return Validation(
        scores=scores(target, probability, threshold),
        intervals={name: interval(target, probability[None], name, threshold) for name in METRICS},
        intercept=calibration_intercept(odds, target),
        slope=calibration_line(odds, target)[1],
        offer=offer(odds, target),
        missing=dict(zip(FIELDS, np.isnan(rows).mean(axis=0).tolist(), strict=True)),
        ratio=observed_over_expected(target, probability),
        threshold=threshold,
        net_benefit={at: net_benefit(target, probability, at) for at in DECISIONS},
        same_for_all=score("log_loss", target, np.full(len(target), target.mean(), np.float32)),
    )


def observed_over_expected(target: Floats, probability: Floats, draws: int = 2000) -> Interval:
    """The number of the diseased over the sum of the probabilities, with the 95 % interval of a bootstrap."""
    sums = np.column_stack([target, probability]).astype(np.float64)
    counted = np.concatenate([weight @ sums for weight in weights(len(target), draws, 0)])
    value, *drawn = counted[:, 0] / counted[:, 1]
    return Interval(float(value), *map(float, np.percentile(drawn, [2.5, 97.5])))


def net_benefit(target: Floats, probability: Floats, threshold: float) -> tuple[float, float]:
    """Net benefit of treating those at or above the threshold, and of treating everybody (Vickers and Elkin, 2006).

    In diseased patients who are treated, per patient; a healthy one who is treated counts -threshold / (1 - threshold).
    Treating nobody has 0.
    """
    harm, treated = threshold / (1 - threshold), probability >= threshold
    found = [((target == 1) & who).mean() - harm * ((target == 0) & who).mean() for who in (treated, True)]
    return float(found[0]), float(found[1])


def logit(probability: Floats) -> Doubles:
    p = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    odds: Doubles = np.log(p / (1 - p))
    return odds


def calibration_line(odds: Doubles, target: Floats) -> tuple[float, float]:
    """Fit the logistic regression of the target on the model's log-odds (Cox, 1958): intercept and slope."""
    fitted = clone(CALIBRATION).fit(odds[:, None], target)
    return float(fitted.intercept_[0]), float(fitted.coef_[0, 0])


def calibration_intercept(odds: Doubles, target: Floats) -> float:
    """Fit the intercept alone; the slope stays 1. The residuals sum to 0 there."""
    low, high = -50.0, 50.0
    for _ in range(60):
        intercept = (low + high) / 2
        too_low = (target - 1 / (1 + np.exp(-odds - intercept))).sum() > 0
        low, high = (intercept, high) if too_low else (low, intercept)
    return intercept


def report(found: Validation, version: str, data: Dataset) -> str:
    missing = ", ".join(f"{name} {round(share * len(data))}" for name, share in found.missing.items() if share)
    measured = found.intervals | {"observed / expected": found.ratio}  # 1 is right
    values = {
        name.replace("_", " "): f"{value:.4f}  (95 % {low:.4f} to {high:.4f})"
        for name, (value, low, high) in measured.items()
    } | {
        "calibration intercept": f"{found.intercept:+.3f}  (0 is right; above 0 the estimates are too low)",
        "calibration slope": f"{found.slope:.3f}  (1 is right; below 1 the estimates are too extreme)",
        "the same for all": f"{found.same_for_all:.4f}  (log loss of {100 * data.target.mean():.0f} % for everybody)",
        "missing values": missing or "none",
    }
    decisions = "\n".join(
        f"  {f'{100 * at:.0f} %':<22} {model:+.3f}  (everybody {everybody:+.3f})"
        for at, (model, everybody) in found.net_benefit.items()
    )
    listed = "\n".join(f"  {name:<22} {value}" for name, value in values.items())
    return f"""\
Version {version} on {len(data)} patients of {data.name}, of whom {int(data.target.sum())} are diseased
{listed}
Accuracy, sensitivity and specificity are at the threshold {found.threshold:g}.

Net benefit of treating those at or above a threshold, beside treating everybody; treating nobody has 0:
{decisions}

{advice(found)}"""


def advice(found: Validation) -> str:
    """Say whether a recalibration is better, in one line."""
    if not found.offer:
        return f"Too few patients to recalibrate the model: {LEAST} are needed."
    value, low, high = found.offer.gain
    said = f"Recalibrated to these patients its log loss changes by {value:+.4f} (95 % {low:+.4f} to {high:+.4f})"
    return f"{said}: " + (
        "--recalibrate writes that model" if found.offer.is_better else "not surely better, so keep the model"
    )


def recalibrate(model: ExportedModel, found: Validation, data: Dataset, models: Path, force: bool = False) -> Path:
    """Move the log-odds along the offered line, in the last layer, and write the model as the next version.

    Its checks and the bins of its probabilities are computed again, the latter for these patients.

    Raises ArtefactError if there is no offer, or if it is no better and not forced.
    """
    if not found.offer or not (found.offer.is_better or force):
        raise ArtefactError(f"not recalibrated. {advice(found)}" + ("; --force writes it" if found.offer else ""))
    intercept, slope = found.offer.line
    proto = onnx.load_from_string(model.content)
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    for operation, shift in (("MatMul", 0.0), ("Add", intercept)):
        last = [node for node in proto.graph.node if node.op_type == operation][-1]
        tensor = next(stored[name] for name in last.input if name in stored)
        moved = (onnx.numpy_helper.to_array(tensor) * slope + shift).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(moved, tensor.name))
    session = cpu_session(proto.SerializeToString())
    after = predict(session, data.rows)
    old, before = model.metadata, found.scores
    how = {"recalibrated_from": old.version, "intercept": intercept, "slope": slope}
    how |= {"file": data.name, "sha256": data.sha256, "rows": len(data), "forced": not found.offer.is_better}
    bins = training_summary.bins(data.rows, data.target, after)
    crossed = scores(data.target, found.offer.probability, old.threshold)
    metadata = old.model_copy(
        update={
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "promotion": how,
            "metrics": {f"version {old.version} on these patients": before, "recalibrated, cross-validated": crossed},
            "linearity": {},
            "checks": training_summary.checks(lambda rows: predict(session, rows)),
            "bins": old.bins and old.bins | {"probability": bins["probability"]},
        }
    )
    return save(proto, metadata, _card(metadata, found.offer, data), {}, models)


def _card(metadata: Metadata, taken: Offer, data: Dataset) -> str:
    old, (intercept, slope) = metadata.promotion["recalibrated_from"], taken.line
    rows = [[name, *(f"{of[metric]:.3f}" for metric in METRICS)] for name, of in metadata.metrics.items()]
    doubt = "" if taken.is_better else " **It contains 0**: they do not show that this version is better."
    return f"""# Heart disease, version {{version}}

Version {old}, recalibrated: its log-odds times {slope:.4f} plus {intercept:.4f}. Both numbers were fitted to the
{len(data)} patients of {data.name}, {int(data.target.sum())} of them diseased (SHA-256 `{data.sha256}`),
with normal priors around the model as it was: intercept 0 ± {SHIFT_DEVIATION:g}, slope 1 ± {SLOPE_DEVIATION:g}.
Below {LEAST_FOR_SLOPE} patients the slope stays 1.

{tables.table(["", *METRICS.values()], rows)}

Cross-validated: each patient by a line that was fitted to the others. The change in log loss is
{tables.show(taken.gain, sign="+")}, with the 95 % interval of a bootstrap over these patients.{doubt}

For everything else see the card of version {old}; its scores, coefficients and curves are those before this.
"""
