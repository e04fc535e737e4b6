"""config.pbtxt, which makes the folder of a model's versions a model of a Triton repository.

The folder's name is the model's, and not repeated in the file: a copy under another name is as good. Every tensor's
first dimension is the batch, so Triton may merge what waits into one run, and adds that dimension to `dims`. Folders
whose name is no number (candidates, and what is being written) are nothing to Triton, as to the service.
"""

import contextlib
from pathlib import Path

from patient.artefact import INPUT, OUTPUT
from patient.record import FIELDS

FILE = "config.pbtxt"
ROWS = 65_536  # that Triton takes at once

CONFIG = f"""\
# {INPUT}: {", ".join(FIELDS)}
# NaN is a measurement that was not taken.
# Triton runs the bare graph: it refuses no impossible value.
platform: "onnxruntime_onnx"
backend: "onnxruntime"
max_batch_size: {ROWS}
dynamic_batching {{ }}
version_policy {{ latest {{ num_versions: 1 }} }}
input [ {{ name: "{INPUT}" data_type: TYPE_FP32 dims: [ {len(FIELDS)} ] }} ]
output [ {{ name: "{OUTPUT}" data_type: TYPE_FP32 dims: [ 1 ] }} ]
"""


def stale(models: Path) -> bool:
    """Whether a folder of versions lacks this file, or has another: one that is right stays, or Triton would reload."""
    with contextlib.suppress(OSError):
        return (models / FILE).read_bytes() != CONFIG.encode()
    return True
