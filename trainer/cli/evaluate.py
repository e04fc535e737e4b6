"""`python -m trainer evaluate`: how good a recipe is, or a finished model on other patients."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import CliImplicitFlag

from trainer import external_validation, progress
from trainer.atomic_write import atomic_write
from trainer.cross_validation import cross_validate_models, stratified_folds
from trainer.dataset import read
from trainer.metrics import spread
from trainer.promote import ExportedModel
from trainer.recipe import Recipe
from trainer.report import tables


class Evaluate(Recipe):
    """Cross-validate the network that these flags make, beside its baselines; or score a finished model on a table."""

    data: Path = Field(Path("trainer/data/cleveland.csv"), description="CSV or Parquet file, or a folder of them")
    folds: int = Field(10, ge=2, description="folds of the cross-validation")
    repeats: int = Field(10, ge=1, description="how often it is repeated with other folds")
    threshold: float = Field(0.5, gt=0, lt=1, description="of accuracy, sensitivity and specificity")
    model: Path | None = Field(None, description="folder of a version: validate this model, as it is, on the table")
    recalibrate: CliImplicitFlag[bool] = Field(
        False, description="with --model: recalibrated, make it the next version"
    )
    out: Path | None = Field(None, description="write the results to this .json or .csv file too")

    def cli_cmd(self) -> None:
        """Run the command."""
        data = read(self.data)
        if self.model:
            finished = ExportedModel(self.model / "model.onnx")
            result = external_validation.validate(finished, data.rows, data.target)
            progress.say(external_validation.report(result, finished.metadata.version, data))
            if self.recalibrate:
                folder = external_validation.recalibrate(finished, result, data, self.model.parent)
                progress.say(f"Wrote {folder}")
            self._write(dataclasses.asdict(result), [])
            return
        folds = stratified_folds(data.target, self.repeats, self.folds, self.seed)
        with progress.steps() as tick:
            evidence = cross_validate_models(data.rows, data.target, self, folds, tick)
        progress.say(f"{self.repeats} x {self.folds} folds of {len(data)} rows, seed {self.seed}:\n")
        progress.markdown(tables.score_table(evidence, self.threshold))
        progress.say(f"Difference to {tables.REFERENCE} on the same patients, with the 95 % interval of a bootstrap:\n")
        progress.markdown(tables.difference_table(evidence))
        progress.say("Log loss when the held-out rows lack these measurements:\n")
        progress.markdown(tables.missing_table(evidence))
        found = {name: spread(data.target, said, self.threshold) for name, said in evidence.probability.items()}
        scores = {
            model: {metric: {"mean": mean, "sd": sd if self.repeats > 1 else None} for metric, (mean, sd) in of.items()}
            for model, of in found.items()
        }
        lines = [[model, metric, *of.values()] for model, metrics in scores.items() for metric, of in metrics.items()]
        lines += [
            [model, f"log_loss without {lacking}", loss, ""]
            for lacking, losses in evidence.missing.items()
            for model, loss in losses.items()
        ]
        self._write({"scores": scores, "missing": evidence.missing}, lines)

    def _write(self, result: dict[str, Any], lines: list[list[Any]]) -> None:
        if not self.out:
            return
        with atomic_write(self.out) as hidden, hidden.open("w", newline="", encoding="utf-8") as file:
            if self.out.suffix == ".csv":
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([["model", "metric", "mean", "sd"], *lines] if lines else result.items())
            else:
                json.dump(result, file, indent=1)
        progress.say(f"Wrote {self.out}")
