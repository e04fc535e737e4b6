"""The HTTP service: an ONNX file in, probabilities out. It never imports the trainer, nor TensorFlow."""

import os

# Before ONNX Runtime is imported: its builds for Linux tell their makers what they run, unless this says no.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
