"""The offline trainer: CSV -> Keras network -> ONNX file. It imports patient, never service."""

import os

# Before ONNX Runtime is imported: its Linux builds send telemetry unless this is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
