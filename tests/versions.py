"""Versions of the model that can be told apart by their answers: each gives every patient a probability of its own."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from patient.artefact import FILE, Checks
from patient.record import EXAMPLE, FIELDS
from tests.conftest import MODELS


def said_by(version: int | str) -> float:
    """What `make` lets this version say, whoever asks."""
    return int(version) / 1000


def make(models: Path, version: int, says: float | None = None, **metadata: Any) -> Path:
    """Put a whole version there at once, as the trainer does, and return its file."""
    model = onnx.load(MODELS / "2" / FILE)
    says = said_by(version) if says is None else says
    for tensor in model.graph.initializer:
        if list(tensor.dims) in ([16, 1], [1]):  # the last layer
            value = 0 if len(tensor.dims) == 2 else np.log(says / (1 - says))
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(tensor.dims, value, np.float32), tensor.name))
    checks = Checks(rows=[[EXAMPLE[name] for name in FIELDS], [None] * len(FIELDS)], probabilities=[says] * 2)
    pairs = {pair.key: pair.value for pair in model.metadata_props}
    new = {"version": str(version), "checks": checks.model_dump()} | metadata
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, pairs | {key: json.dumps(value) for key, value in new.items()})
    aside = models / f".writing-{version}"
    aside.mkdir(parents=True)
    onnx.save(model, aside / FILE)
    return aside.rename(models / str(version)) / FILE


def remove(models: Path, version: int) -> None:
    """Take it away again."""
    shutil.rmtree(models / str(version))
