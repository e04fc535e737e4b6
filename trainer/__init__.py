"""The offline trainer: CSV -> Keras network -> ONNX file. The service never imports it."""

import os

# Before ONNX Runtime is imported: its builds for Linux tell their makers what they run, unless this says no.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
