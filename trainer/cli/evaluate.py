"""`python -m trainer evaluate`: cross-validate a recipe, or validate a trained model on other patients."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

from trainer import external_validation, progress
from trainer.atomic_write import atomic_write
from trainer.cli.options import EvaluateOptions
from trainer.cross_validation import cross_validate_models, stratified_folds
from trainer.dataset import read
from trainer.metrics import spread
from trainer.promote import ExportedModel
from trainer.report import tables


def run(options: EvaluateOptions) -> None:
    data = read(options.data)
    for note in data.notes:
        progress.say(note)
    if options.model:
        model = ExportedModel(options.model / "model.onnx")
        threshold = options.threshold if "threshold" in options.model_fields_set else None
        result = external_validation.validate(model, data.rows, data.target, threshold)
        progress.say(external_validation.report(result, model.metadata.version, data))
        if options.recalibrate:
            folder = external_validation.recalibrate(model, result, data, options.model.parent, options.force)
            progress.say(f"Wrote {folder}")
        written = dataclasses.asdict(result)
        if result.offer:
            del written["offer"]["probability"]
        _write(options.out, written, [])
        return
    folds = stratified_folds(data.target, options.repeats, options.folds, options.seed)
    with progress.bars() as tick:
        validation = cross_validate_models(data.rows, data.target, options, folds, tick)
    progress.say(f"{options.repeats} x {options.folds} folds of {len(data)} rows, seed {options.seed}:\n")
    progress.markdown(tables.score_table(validation, options.threshold))
    progress.say(f"Difference to {tables.REFERENCE} on the same patients, with the 95 % interval of a bootstrap:\n")
    progress.markdown(tables.difference_table(validation))
    progress.say("Log loss if the held-out rows lack these measurements:\n")
    progress.markdown(tables.missing_table(validation))
    scores = {}
    for name, predicted in validation.probability.items():
        found = spread(data.target, predicted, options.threshold)
        scores[name] = {
            metric: {"mean": mean, "sd": sd if options.repeats > 1 else None} for metric, (mean, sd) in found.items()
        }
    lines = [[model, metric, *of.values()] for model, metrics in scores.items() for metric, of in metrics.items()]
    lines += [
        [model, f"log_loss without {lacking}", loss, ""]
        for lacking, losses in validation.missing.items()
        for model, loss in losses.items()
    ]
    _write(options.out, {"scores": scores, "missing": validation.missing}, lines)


def _write(out: Path | None, result: dict[str, Any], lines: list[list[Any]]) -> None:
    if not out:
        return
    with atomic_write(out) as hidden, hidden.open("w", newline="", encoding="utf-8") as file:
        if out.suffix == ".csv":
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([["model", "metric", "mean", "sd"], *lines] if lines else result.items())
        else:
            json.dump(result, file, indent=1)
    progress.say(f"Wrote {out}")
