"""config.pbtxt, which makes the folder of a model's versions a model of a Triton repository.

The file does not repeat the model's name, so the folder may be copied under another one. Every tensor's first dimension
is the batch, so Triton may merge waiting requests into one run; it adds that dimension to `dims`. Triton, like the
service, ignores folders whose name is not a number (candidates and unfinished versions).
"""

import contextlib
from pathlib import Path

from patient.artefact import INPUT, OUTPUT
from patient.record import FIELDS

CONFIG_FILE = "config.pbtxt"
MAX_BATCH_ROWS = 65_536

CONFIG = f"""\
# {INPUT}: {", ".join(FIELDS)}
# NaN is a measurement that was not taken.
# Triton runs the bare graph: it refuses no impossible value.
platform: "onnxruntime_onnx"
backend: "onnxruntime"
max_batch_size: {MAX_BATCH_ROWS}
dynamic_batching {{ }}
version_policy {{ latest {{ num_versions: 1 }} }}
input [ {{ name: "{INPUT}" data_type: TYPE_FP32 dims: [ {len(FIELDS)} ] }} ]
output [ {{ name: "{OUTPUT}" data_type: TYPE_FP32 dims: [ 1 ] }} ]
"""


def is_outdated(models: Path) -> bool:
    """Return whether the file is missing or differs from CONFIG. Rewriting an equal file would make Triton reload."""
    with contextlib.suppress(OSError):
        return (models / CONFIG_FILE).read_bytes() != CONFIG.encode()
    return True
