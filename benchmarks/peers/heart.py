"""Shared by the peers: the patient as a Pydantic model, and the model file in one thread of ONNX Runtime.

The validation is that of patient/record.py (a test compares both) without its Python steps.
"""

import os
from collections.abc import Sequence
from operator import attrgetter
from typing import Annotated, Literal

import numpy as np
import onnxruntime as ort
from pydantic import BaseModel, Field


class Patient(BaseModel):
    """13 measurements; null = not taken."""

    age: Annotated[float, Field(ge=18, le=120)]
    sex: Literal[0, 1]
    cp: Literal[0, 1, 2, 3, 4] | None
    trestbps: Annotated[float, Field(ge=50, le=300)] | None
    chol: Annotated[float, Field(ge=50, le=1000)] | None
    fbs: Literal[0, 1] | None
    restecg: Literal[0, 1, 2] | None
    thalach: Annotated[float, Field(ge=40, le=250)] | None
    exang: Literal[0, 1] | None
    oldpeak: Annotated[float, Field(ge=-5, le=10)] | None
    slope: Literal[1, 2, 3] | None
    ca: Literal[0, 1, 2, 3] | None
    thal: Literal[3, 6, 7] | None


class Prediction(BaseModel):
    """The prediction for one patient."""

    probability: float


def session(path: str) -> ort.InferenceSession:
    """The model in one thread that does not spin: the server has one core."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Model:
    """Return the probabilities of patients. The file ($BENCH_MODEL) is ours, with the encoding inside."""

    values = attrgetter(*Patient.model_fields)

    def __init__(self) -> None:
        self.session = session(os.environ["BENCH_MODEL"])

    def __call__(self, patients: Sequence[Patient]) -> list[float]:
        """One probability per patient, in order."""
        rows = np.array([self.values(patient) for patient in patients], np.float32)  # numpy makes NaN of None
        probabilities: list[float] = self.session.run(None, {"patient": rows})[0][:, 0].tolist()
        return probabilities
