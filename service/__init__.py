"""The prediction service, its client and its commands. Imports neither the trainer nor TensorFlow."""

import os

# Set before ONNX Runtime is imported: its Linux builds send telemetry otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
