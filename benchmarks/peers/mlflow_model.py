"""MLflow: `python -m benchmarks.peers.mlflow_model` saves our file as its model, `mlflow models serve` serves it."""

import os
from pathlib import Path

import mlflow.onnx
import onnx
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from benchmarks.peers.heart import Patient

if __name__ == "__main__":
    # All are doubles: MLflow has no missing value for whole numbers.
    columns = Schema([ColSpec("double", name) for name in Patient.model_fields])
    mlflow.onnx.save_model(
        onnx.load(os.environ["BENCH_MODEL"]),
        Path(os.environ["BENCH_WORK"]) / "mlflow",
        signature=ModelSignature(columns),
        onnx_execution_providers=["CPUExecutionProvider"],
        onnx_session_options={"intra_op_num_threads": 1},
        save_as_external_data=False,
        pip_requirements=[],
    )
