"""Triton as packaged by PyTriton: its C++ front end and its Python backend; that build has no ONNX Runtime backend.

`python -m benchmarks.peers.triton_model` lays out the model's folder, with this file as the model's code.
"""

import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

if __name__ != "__main__":
    sys.path[:0] = os.environ["PYTHONPATH"].split(":")  # the backend does not read it

from pydantic import ValidationError

from benchmarks.peers.heart import Model, Patient

MISSING = -99  # stands for a value that was not taken: JSON has no NaN, and Triton takes no null
CONFIG = """name: "heart"
backend: "python"
max_batch_size: 1024
{inputs}
output {{ name: "probability" data_type: TYPE_FP32 dims: [1] }}
instance_group {{ kind: KIND_CPU count: 1 }}
dynamic_batching {{ }}
"""


class TritonPythonModel:
    """One input a field, so that plain JSON objects are accepted; waiting requests share a run."""

    def initialize(self, args: Any) -> None:  # noqa: ARG002, named by Triton
        """Load the model."""
        self.model = Model()

    def patients(self, request: Any) -> Any:
        """The request's patients, or Triton's error."""
        import triton_python_backend_utils as triton

        names = list(Patient.model_fields)
        columns = [triton.get_input_tensor_by_name(request, name).as_numpy()[:, 0].tolist() for name in names]
        rows = ([None if value == MISSING else value for value in row] for row in zip(*columns, strict=True))
        try:
            return [Patient(**dict(zip(names, row, strict=True))) for row in rows]
        except ValidationError as error:
            return triton.TritonError(str(error), triton.TritonError.INVALID_ARG)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One run for all requests."""
        import numpy as np
        import triton_python_backend_utils as triton

        groups = [self.patients(request) for request in requests]
        valid = [patient for group in groups if isinstance(group, list) for patient in group]
        answers = iter(self.model(valid) if valid else [])
        responses = []
        for group in groups:
            if isinstance(group, list):
                values = np.array([[next(answers, math.nan)] for _ in group], np.float32)
                responses.append(triton.InferenceResponse([triton.Tensor("probability", values)]))
            else:
                responses.append(triton.InferenceResponse(error=group))
        return responses


if __name__ == "__main__":
    import pytriton

    work, packed = Path(os.environ["BENCH_WORK"]), Path(pytriton.__file__).parent / "tritonserver"
    folder = work / "triton/heart/1"
    folder.mkdir(parents=True)
    shutil.copy(__file__, folder / "model.py")
    inputs = (f'input {{ name: "{name}" data_type: TYPE_FP32 dims: [1] }}' for name in Patient.model_fields)
    (folder.parent / "config.pbtxt").write_text(CONFIG.format(inputs="\n".join(inputs)))
    backend = work / "backends/python"
    shutil.copytree(packed / "backends/python", backend)
    stub = f"python_backend_stubs/{sys.version_info.major}.{sys.version_info.minor}/triton_python_backend_stub"
    shutil.copy(packed / stub, backend)
