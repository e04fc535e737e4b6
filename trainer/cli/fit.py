"""`python -m trainer fit`: train on a table and save the next version, or a candidate that is not promoted."""

import dataclasses
import datetime
import importlib.metadata
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from patient.artefact import ArtefactError, Metadata, fingerprint, schema, versions
from patient.encoding import Floats
from patient.printable import printable
from trainer import progress, training_summary
from trainer.cli.options import MAX_FOLDED_ROWS, FitOptions
from trainer.cross_validation import NETWORK, CrossValidation, Folds, cross_validate_models, stratified_folds
from trainer.dataset import TableSource, TrainTestTable, digest, sample
from trainer.export import parity, save, to_onnx
from trainer.fit import Fitted, fit_chunks
from trainer.metrics import scores, spread
from trainer.promote import Comparison, compare_models, compare_recipes, serving
from trainer.report.card import CROSS_VALIDATED, card
from trainer.report.loss_surface import measure_loss_surface
from trainer.report.plots import figures

LIBRARIES = ("tensorflow", "keras", "tf2onnx", "onnx", "numpy")


def run(options: FitOptions) -> None:
    """Raises ArtefactError if the candidate does not become a version."""
    if options.if_none and (known := versions(options.models)):
        progress.say(f"{options.models} already holds version {known[-1]}: nothing to do")
        return
    strategy, is_chief = _strategy(options.strategy)
    progress.say(f"Training on {_device()}")
    source = TableSource(options.data, options.max_bad_share, options.rejects if options.max_bad_share else None)
    table = TrainTestTable(source, options.test_share, options.seed, MAX_FOLDED_ROWS if options.repeats else 0)
    for note in table.notes:
        progress.say(note)
    if source.bad:
        progress.say(f"Invalid rows left out: {source.bad}; {options.rejects} lists them")
    folds = _folds(options, table)
    fitted, stopped = _train(options, table, strategy)
    if not is_chief:
        return  # all workers have the same weights; the chief writes them
    model = to_onnx(fitted)
    rows, target = sample(table.train())
    difference = parity(model, fitted, rows)
    validation, comparison = _evaluate(options, table, fitted, folds)
    test_rows, test_target = sample(table.test())
    majority = np.full(len(test_target), target.mean())
    parts = {"train": (target, fitted.predict(rows))}
    if len(test_target):
        parts |= {"test": (test_target, fitted.predict(test_rows)), "majority": (test_target, majority)}
    metrics: dict[str, Any] = {name: scores(*part, options.threshold) for name, part in parts.items()}
    if validation:
        for title, probability in validation.probability.items():
            found = spread(validation.target, probability, options.threshold)
            metrics[f"{title} {CROSS_VALIDATED}"] = {name: mean for name, (mean, _) in found.items()}
    unrecorded = {"data", "rejects", "models", "if_none", "tensorboard"}
    predicted = validation.probability[NETWORK].mean(axis=0) if validation else fitted.predict(rows)
    metadata = Metadata(
        version="0",  # save() sets it
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        fields=schema(),
        fingerprint=fingerprint(),
        threshold=options.threshold,
        data={
            "file": printable(options.data.name),
            "sha256": digest(options.data),
            "rows": len(table),
            "train_rows": table.train_rows,
            "test_rows": table.test_rows,
        },
        flags=options.model_dump(mode="json", exclude=unrecorded) | {"epochs": len(fitted.losses)},
        metrics=metrics,
        libraries={name: importlib.metadata.version(name) for name in LIBRARIES},
        promotion=dataclasses.asdict(comparison) if comparison else {},
        linearity=dataclasses.asdict(fitted.linearity(rows, options.activation)),
        checks=training_summary.checks(fitted.predict),
        bins=training_summary.bins(rows, target, predicted),
        background=training_summary.background(rows, options.background),
    )
    plots: dict[str, bytes] = {}
    if validation:
        plots = figures(validation, fitted.predict, measure_loss_surface(fitted, rows, target), options.threshold)
    refusal = _refusal(options, comparison, stopped)
    text = card(metadata, difference, validation)
    folder = save(model, metadata, text, plots, options.models, aside=refusal is not None)
    progress.summary(folder, metadata, len(fitted.losses), difference)
    if refusal:
        raise ArtefactError(f"not promoted: {refusal}; the candidate is in {folder}")


def _train(options: FitOptions, table: TrainTestTable, strategy: tf.distribute.Strategy | None) -> tuple[Fitted, bool]:
    """Return the trained network, and whether Ctrl-C stopped the training early."""
    test_rows, test_target = sample(table.test(), 10_000)
    writer = tf.summary.create_file_writer(str(options.tensorboard)) if options.tensorboard else None
    with _interruptible() as interrupted, progress.bars() as show:

        def tick(fitted: Fitted) -> bool:
            losses = {"loss": fitted.losses[-1]}
            if len(test_target):
                losses["held-out loss"] = scores(test_target, fitted.predict(test_rows))["log_loss"]
            show("epoch", len(fitted.losses), options.epochs, losses)
            if writer:
                with writer.as_default(step=len(fitted.losses)):
                    for name, value in losses.items():
                        tf.summary.scalar(name, value)
            return bool(interrupted)

        return fit_chunks(table.train, options, tick, strategy), bool(interrupted)


def _folds(options: FitOptions, table: TrainTestTable) -> Folds | None:
    """Return the folds of the cross-validation, or None without one. Raises DatasetError for too few patients."""
    if not options.repeats or len(table) > MAX_FOLDED_ROWS:
        return None
    return stratified_folds(sample(table.train())[1], options.repeats, options.folds, options.seed)


def _evaluate(
    options: FitOptions, table: TrainTestTable, fitted: Fitted, folds: Folds | None
) -> tuple[CrossValidation | None, Comparison | None]:
    """Evaluate the candidate, and compare it with the current version, by cross-validation or on the test rows."""
    model = serving(options.models)
    recipe = options.model_copy(update={"epochs": len(fitted.losses)})
    if folds:
        rows, target = sample(table.train())
        with progress.bars() as tick:
            validation = cross_validate_models(rows, target, recipe, folds, tick)
            if not model:
                return validation, None
            probability = validation.probability[NETWORK]
            return validation, compare_recipes(model, rows, target, probability, folds, options.margin, tick)
    held: tuple[Floats, Floats] = sample(table.test())
    if not model or not len(held[1]):
        return None, None
    return None, compare_models(model, *held, fitted.predict(held[0]), options.margin)


def _refusal(options: FitOptions, comparison: Comparison | None, stopped: bool) -> str | None:
    if options.force:
        return None
    if stopped and not progress.ask("Training stopped early. Use the network as it is?"):
        return "training stopped before the last epoch"
    if comparison:
        return comparison.refusal
    known = versions(options.models)
    return f"no rows were held out to compare it with version {known[-1]}; --force promotes it" if known else None


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Yield a list that the first Ctrl-C fills; the second one raises KeyboardInterrupt."""
    signals: list[int] = []

    def receive(number: int, _frame: object) -> None:
        signals.append(number)
        signal.signal(signal.SIGINT, before)
        sys.stderr.write("\nStopping after this epoch; Ctrl-C again stops at once.\n")

    before = signal.signal(signal.SIGINT, receive)
    try:
        yield signals
    finally:
        signal.signal(signal.SIGINT, before)


def _strategy(name: str) -> tuple[tf.distribute.Strategy | None, bool]:
    """Return TensorFlow's distribution strategy, and whether this process is the chief, which writes the model."""
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(), True
    if name == "multiworker":
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        return strategy, strategy.cluster_resolver.task_id == 0
    return None, True


def _device() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu)["device_name"] for gpu in gpus]
    return f"the GPU {names[0]}" if names else "the CPU: TensorFlow found no GPU"
