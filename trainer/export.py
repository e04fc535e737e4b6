"""Keras to one ONNX file with its metadata, written only after both agree, and never half."""

import contextlib
import os
import shutil
import tempfile
import time
from itertools import count
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import tensorflow as tf
import tf2onnx

from patient.artefact import CARD, FILE, INPUT, OUTPUT, Metadata, versions
from patient.encoding import Floats
from patient.record import FIELDS
from trainer import triton
from trainer.fit import Fitted

OPSET = 18
HIDDEN = ".writing-"  # starts the name of a folder that is being filled; no reader takes it for a version
ABANDONED = 3600  # seconds after which such a folder is what a killed trainer has left
PARITY = 1e-6  # the largest difference between Keras and ONNX Runtime that float32 rounding explains


class ExportError(Exception):
    """The exported graph does not answer as the Keras model does."""


def to_onnx(fitted: Fitted) -> onnx.ModelProto:
    """Encoding and network as one graph: `patient` float32[N,13], NaN = missing, to `probability` float32[N,1]."""
    signature = [tf.TensorSpec((None, len(FIELDS)), tf.float32, name=INPUT)]
    graph = tf.function(lambda patient: {OUTPUT: fitted(patient)}, input_signature=signature)
    model: onnx.ModelProto
    model, _ = tf2onnx.convert.from_function(graph, input_signature=signature, opset=OPSET)
    model.graph.ClearField(
        "doc_string"
    )  # it and the name of the first dimension hold counters: two exports would differ
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.checker.check_model(model, full_check=True)
    return model


def parity(model: onnx.ModelProto, fitted: Fitted, rows: Floats) -> float:
    """The largest difference between ONNX Runtime and Keras on these rows. Raises ExportError above PARITY."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (exported,) = session.run([OUTPUT], {INPUT: rows})
    difference = float(np.abs(exported[:, 0] - fitted.predict(rows)).max())
    if not difference < PARITY:
        raise ExportError(
            f"ONNX Runtime and Keras differ by {difference:.1e}, allowed is {PARITY:.0e}; nothing written"
        )
    return difference


def save(
    model: onnx.ModelProto, metadata: Metadata, card: str, plots: dict[str, bytes], models: Path, aside: bool = False
) -> Path:
    """Write model, card and plots as the next version, or `aside` as a candidate for a look, and return the folder.

    Triton's config.pbtxt is written before the first version, and left alone where it is right.

    The folder is filled under a hidden name and then renamed. A rename onto a folder that is there fails, so of two
    trainers that meet, the later one takes the next number.
    """
    models.mkdir(parents=True, exist_ok=True)
    for left in models.glob(f"{HIDDEN}*"):
        with contextlib.suppress(FileNotFoundError):  # another trainer sweeps, or has just renamed it
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
    hidden = Path(tempfile.mkdtemp(prefix=HIDDEN, dir=models))
    try:
        hidden.chmod(0o755)
        for name, content in plots.items():
            _write(hidden / name, content)
        for number in count(max(versions(models), default=0) + 1):
            version = f"candidate-{metadata.created.replace(':', '')}" if aside else str(number)
            stamped = metadata.model_copy(update={"version": version})
            onnx.helper.set_model_props(model, stamped.to_strings())
            _write(hidden / FILE, model.SerializeToString(deterministic=True))
            _write(hidden / CARD, card.replace("{version}", version).encode())
            if not aside and triton.stale(models):
                _write(hidden / triton.FILE, triton.CONFIG.encode())
                (hidden / triton.FILE).replace(models / triton.FILE)
            try:
                return hidden.rename(models / version)
            except OSError:
                if aside or not (models / version).exists():
                    raise
    finally:
        shutil.rmtree(hidden, ignore_errors=True)  # gone already where all went well
    raise AssertionError("unreachable: there is always a next number")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
