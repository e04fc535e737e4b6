"""`python -m trainer fit`: from a table to the next version, or to a candidate that is left aside."""

import datetime
import importlib.metadata
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from pydantic import Field
from pydantic_settings import CliImplicitFlag

from patient.artefact import Metadata, fingerprint, schema, versions
from patient.encoding import Floats
from trainer import progress, training_summary
from trainer.cross_validation import NETWORK, CrossValidation, cross_validate_models, stratified_folds
from trainer.export import parity, save, to_onnx
from trainer.fit import Fitted, fit_chunks
from trainer.metrics import scores, spread
from trainer.promote import Comparison, compare_models, compare_recipes, serving
from trainer.recipe import Recipe
from trainer.report.card import CROSS_VALIDATED, card
from trainer.report.loss_surface import measure_loss_surface
from trainer.report.results import figures
from trainer.table_source import TableSource, digest
from trainer.train_test import TrainTestTable, sample

LIBRARIES = ("tensorflow", "keras", "tf2onnx", "onnx", "numpy")
SMALL = 20_000  # rows up to which the recipe is cross-validated, and all rows train


class NotPromoted(Exception):
    """The candidate has not become a version. The message says why, and where it is."""


class Fit(Recipe):
    """Fit the network, export it to ONNX, and make it the next version if it is no worse than the one that serves."""

    data: Path = Field(Path("trainer/data/cleveland.csv"), description="CSV or Parquet file, or a folder of them")
    max_bad_share: float = Field(0.0, ge=0, lt=1, description="share of rows that may be bad, and are left out")
    rejects: Path = Field(Path("rejects.csv"), description="file that lists the bad rows, where some are allowed")
    models: Path = Field(Path("models/heart_disease"), description="folder of the versions")
    threshold: float = Field(0.5, gt=0, lt=1, description="probability from which on the service says heart disease")
    test_share: float | None = Field(
        None,
        ge=0,
        lt=1,
        description=f"share of rows held out; default 0.2, or 0 up to {SMALL} rows, which have folds",
    )
    folds: int = Field(10, ge=2, description="folds of the cross-validation that judges the recipe")
    repeats: int = Field(10, ge=0, description="how often it is repeated with other folds; 0: none")
    margin: float = Field(0.005, ge=0, description="log loss by which it may be worse than the version that serves")
    force: CliImplicitFlag[bool] = Field(False, description="promote in any case; recorded in the model file")
    if_none: CliImplicitFlag[bool] = Field(False, description="do nothing if the folder holds a version already")
    strategy: Literal["default", "mirrored", "multiworker"] = Field(
        "default", description="one device; all GPUs of the host; or several hosts, named in TF_CONFIG"
    )
    background: int = Field(
        32, ge=0, description="training rows that the model file shows, for explanations to compare with; 0: none"
    )
    tensorboard: Path | None = Field(None, description="folder for TensorBoard's logs of loss and held-out loss")

    def cli_cmd(self) -> None:
        """Run the command."""
        if self.if_none and (known := versions(self.models)):
            progress.say(f"{self.models} holds version {known[-1]} already: nothing to do")
            return
        strategy, chief = _strategy(self.strategy)
        progress.say(f"Training on {_device()}")
        source = TableSource(self.data, self.max_bad_share, self.rejects if self.max_bad_share else None)
        table = TrainTestTable(source, self.test_share, self.seed, SMALL if self.repeats else 0)
        if source.bad:
            progress.say(f"Bad rows left out: {source.bad}; {self.rejects} lists them")
        fitted, stopped = self._train(table, strategy)
        if not chief:
            return  # the others have the same weights; one of them writes
        model = to_onnx(fitted)
        rows, target = sample(table.train())
        difference = parity(model, fitted, rows)
        evidence, comparison = self._judge(table, fitted)
        held = sample(table.test())
        majority = np.full(len(held[1]), target.mean())
        parts = {"train": (target, fitted.predict(rows))}
        if len(held[1]):
            parts |= {"test": (held[1], fitted.predict(held[0])), "majority": (held[1], majority)}
        metrics: dict[str, Any] = {name: scores(*part, self.threshold) for name, part in parts.items()}
        if evidence:
            for title, probability in evidence.probability.items():
                found = spread(evidence.target, probability, self.threshold)
                metrics[f"{title} {CROSS_VALIDATED}"] = {name: mean for name, (mean, _) in found.items()}
        ours = {"data", "rejects", "models", "if_none", "tensorboard"}
        told = evidence.probability[NETWORK].mean(axis=0) if evidence else fitted.predict(rows)
        metadata = Metadata(
            version="0",  # save() numbers it
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            fields=schema(),
            fingerprint=fingerprint(),
            threshold=self.threshold,
            data={
                "file": self.data.name,
                "sha256": digest(self.data),
                "rows": len(table),
                "train_rows": table.train_rows,
                "test_rows": table.test_rows,
            },
            flags=self.model_dump(mode="json", exclude=ours) | {"epochs": len(fitted.losses)},
            metrics=metrics,
            libraries={name: importlib.metadata.version(name) for name in LIBRARIES},
            promotion=comparison.as_metadata() if comparison else {},
            checks=training_summary.checks(fitted),
            bins=training_summary.bins(rows, target, told),
            background=training_summary.background(rows, self.background),
        )
        plots: dict[str, bytes] = {}
        if evidence:
            plots = figures(evidence, fitted.predict, measure_loss_surface(fitted, rows, target), self.threshold)
        refusal = self._refusal(comparison, stopped)
        text = card(metadata, difference, evidence)
        folder = save(model, metadata, text, plots, self.models, aside=refusal is not None)
        progress.summary(folder, metadata, len(fitted.losses), difference)
        if refusal:
            raise NotPromoted(f"not promoted: {refusal}; the candidate lies in {folder}")

    def _train(self, table: TrainTestTable, strategy: tf.distribute.Strategy | None) -> tuple[Fitted, bool]:
        """The fitted network, and whether somebody stopped it before its time."""
        held = sample(table.test(), 10_000)
        writer = tf.summary.create_file_writer(str(self.tensorboard)) if self.tensorboard else None
        with _interruptible() as interrupted, progress.bar(self.epochs) as show:

            def tick(fitted: Fitted) -> bool:
                losses = {"loss": fitted.losses[-1]}
                if len(held[1]):
                    losses["held-out loss"] = scores(held[1], fitted.predict(held[0]))["log_loss"]
                show(len(fitted.losses), losses)
                if writer:
                    with writer.as_default(step=len(fitted.losses)):
                        for name, value in losses.items():
                            tf.summary.scalar(name, value)
                return bool(interrupted)

            return fit_chunks(table.train, self, tick, strategy), bool(interrupted)

    def _judge(self, table: TrainTestTable, fitted: Fitted) -> tuple[CrossValidation | None, Comparison | None]:
        """What folds or held-out rows say of the candidate, alone and beside the version that serves."""
        model = serving(self.models)
        recipe = self.model_copy(update={"epochs": len(fitted.losses)})
        if self.repeats and len(table) <= SMALL:
            rows, target = sample(table.train())
            folds = stratified_folds(target, self.repeats, self.folds, self.seed)
            with progress.steps() as tick:
                evidence = cross_validate_models(rows, target, recipe, folds, tick)
                if not model:
                    return evidence, None
                ours = evidence.probability[NETWORK]
                return evidence, compare_recipes(model, rows, target, ours, folds, self.margin, tick)
        held: tuple[Floats, Floats] = sample(table.test())
        if not model or not len(held[1]):
            return None, None
        return None, compare_models(model, *held, fitted.predict(held[0]), self.margin)

    def _refusal(self, comparison: Comparison | None, stopped: bool) -> str | None:
        if self.force:
            return None
        if stopped and not progress.ask("Stopped early. Go on with what is there?"):
            return "stopped before its last epoch"
        if comparison:
            return comparison.refusal
        known = versions(self.models)
        return f"nothing was held out to compare it with version {known[-1]}; --force promotes it" if known else None


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Ctrl-C fills the list once; the second one interrupts as usual."""
    heard: list[int] = []

    def hear(number: int, _frame: object) -> None:
        heard.append(number)
        signal.signal(signal.SIGINT, before)
        sys.stderr.write("\nStopping after this epoch; Ctrl-C again stops at once.\n")

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, before)


def _strategy(name: str) -> tuple[tf.distribute.Strategy | None, bool]:
    """TensorFlow's distribution strategy of this name, and whether this process is the one that writes."""
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(), True
    if name == "multiworker":
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        return strategy, strategy.cluster_resolver.task_id == 0
    return None, True


def _device() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu)["device_name"] for gpu in gpus]
    return f"the GPU {names[0]}" if names else "the CPU: TensorFlow finds no GPU"
