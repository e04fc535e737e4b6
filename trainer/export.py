"""Export a Keras model to one ONNX file with its metadata, check that both agree, and write it atomically."""

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import tensorflow as tf
import tf2onnx

from patient.artefact import CARD, FILE, INPUT, OUTPUT, ArtefactError, Metadata, versions
from patient.encoding import Floats
from patient.record import FIELDS
from trainer.fit import Fitted

TRITON_FILE = "config.pbtxt"
# Makes the folder of the versions a model of a Triton repository. The file does not repeat the model's name, so the
# folder may be copied under another one. Every tensor's first dimension is the batch, so Triton may merge waiting
# requests into one run; it adds that dimension to `dims`. Triton, like the service, ignores folders whose name is not a
# number (candidates and unfinished versions).
TRITON_CONFIG = f"""\
# {INPUT}: {", ".join(FIELDS)}
# NaN is a measurement that was not taken.
# Triton runs the bare graph: it does not check ranges and codes.
platform: "onnxruntime_onnx"
backend: "onnxruntime"
max_batch_size: 65536
dynamic_batching {{ }}
version_policy {{ latest {{ num_versions: 1 }} }}
input [ {{ name: "{INPUT}" data_type: TYPE_FP32 dims: [ {len(FIELDS)} ] }} ]
output [ {{ name: "{OUTPUT}" data_type: TYPE_FP32 dims: [ 1 ] }} ]
"""
TEMPORARY_PREFIX = ".writing-"  # of a folder that is being filled; readers ignore it
MAX_DIFFERENCE = 1e-6  # between Keras and ONNX Runtime; float32 rounding stays below it


class ExportError(ArtefactError):
    """The exported graph and the Keras model disagree."""


def to_onnx(fitted: Fitted) -> onnx.ModelProto:
    """Export encoding and network: `patient` float32[N,13], NaN = missing, to `probability` float32[N,1]."""
    signature = [tf.TensorSpec((None, len(FIELDS)), tf.float32, name=INPUT)]
    graph = tf.function(lambda patient: {OUTPUT: fitted(patient)}, input_signature=signature)
    model: onnx.ModelProto
    model, _ = tf2onnx.convert.from_function(graph, input_signature=signature, opset=18)
    # doc_string and the name of the first dimension hold counters, by which two exports would differ.
    model.graph.ClearField("doc_string")
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.checker.check_model(model, full_check=True)
    return model


def parity(model: onnx.ModelProto, fitted: Fitted, rows: Floats) -> float:
    """Return the largest difference of ONNX Runtime and Keras. Raises ExportError above MAX_DIFFERENCE."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (exported,) = session.run([OUTPUT], {INPUT: rows})
    difference = float(np.abs(exported[:, 0] - fitted.predict(rows)).max())
    if not difference < MAX_DIFFERENCE:
        allowed = f"allowed is {MAX_DIFFERENCE:.0e}"
        raise ExportError(f"ONNX Runtime and Keras differ by {difference:.1e}, {allowed}; nothing written")
    return difference


def save(
    model: onnx.ModelProto, metadata: Metadata, card: str, plots: dict[str, bytes], models: Path, aside: bool = False
) -> Path:
    """Write model, card and plots as the next version, or with `aside` as a candidate; return the folder.

    Triton's config.pbtxt is written before the first version, and again only if it differs: Triton would reload.

    The folder is filled under a hidden name and then renamed. A rename onto an existing folder fails, so of two
    trainers that finish at once, the later one takes the next number.
    """
    models.mkdir(parents=True, exist_ok=True)
    for left in models.glob(f"{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # another trainer removed or renamed it
            if time.time() - left.stat().st_mtime > 3600:  # the rest of a killed trainer
                shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=models))
    try:
        folder.chmod(0o755)
        for name, content in plots.items():
            _write(folder / name, content)
        number = max(versions(models), default=0)
        while True:
            number += 1
            version = f"candidate-{metadata.created.replace(':', '')}" if aside else str(number)
            stamped = metadata.model_copy(update={"version": version})
            onnx.helper.set_model_props(model, stamped.to_strings())
            _write(folder / FILE, model.SerializeToString(deterministic=True))
            _write(folder / CARD, card.replace("{version}", version).encode())
            triton, content = models / TRITON_FILE, TRITON_CONFIG.encode()
            if not aside and not (triton.exists() and triton.read_bytes() == content):
                _write(folder / TRITON_FILE, content)
                (folder / TRITON_FILE).replace(triton)
            try:
                return folder.rename(models / version)
            except OSError:
                if aside or not (models / version).exists():
                    raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # already renamed after a success


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
