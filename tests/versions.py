"""Model versions with distinct constant outputs: each predicts its own probability for every patient."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from patient.artefact import FILE, Checks
from patient.record import EXAMPLE, FIELDS
from tests.conftest import MODELS


def probability_of(version: int | str) -> float:
    """The probability that a version made by `make` predicts for every patient."""
    return int(version) / 1000


def make(models: Path, version: int, probability: float | None = None, **metadata: Any) -> Path:
    """Write a version atomically, as the trainer does, and return its file."""
    model = onnx.load(MODELS / "2" / FILE)
    probability = probability_of(version) if probability is None else probability
    for tensor in model.graph.initializer:
        if list(tensor.dims) in ([16, 1], [1]):  # the last layer
            value = 0 if len(tensor.dims) == 2 else np.log(probability / (1 - probability))
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(tensor.dims, value, np.float32), tensor.name))
    checks = Checks(rows=[[EXAMPLE[name] for name in FIELDS], [None] * len(FIELDS)], probabilities=[probability] * 2)
    pairs = {pair.key: pair.value for pair in model.metadata_props}
    new = {"version": str(version), "checks": checks.model_dump()} | metadata
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, pairs | {key: json.dumps(value) for key, value in new.items()})
    temporary = models / f".writing-{version}"
    temporary.mkdir(parents=True)
    onnx.save(model, temporary / FILE)
    return temporary.rename(models / str(version)) / FILE


def remove(models: Path, version: int) -> None:
    shutil.rmtree(models / str(version))
