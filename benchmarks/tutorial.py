"""A prediction service as tutorials write it, to compare with: FastAPI, a model in, a model out, a list for a batch.

It encodes in Python, runs the network alone, and answers what this project's service answers.
"""

from typing import Any

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel

from patient.artefact import INPUT, OUTPUT
from patient.record import FIELDS, PatientRecord
from service.predictor import CPU

MODEL = "models/heart_disease/2/model.onnx"


class Answer(BaseModel):
    """What the model says of one patient."""

    probability: float
    heart_disease: bool
    missing: list[str]


def create() -> FastAPI:
    """The app."""
    app = FastAPI()
    session = ort.InferenceSession(MODEL, providers=[CPU])

    @app.post("/predict/batch")
    def batch(patients: list[PatientRecord]) -> list[Answer]:
        rows: list[list[Any]] = [[getattr(patient, name) for name in FIELDS] for patient in patients]
        array = np.array([[np.nan if cell is None else cell for cell in row] for row in rows], np.float32)
        probabilities = session.run([OUTPUT], {INPUT: array})[0][:, 0]
        return [
            Answer(probability=float(p), heart_disease=bool(p >= 0.5), missing=patient.missing())
            for patient, p in zip(patients, probabilities, strict=True)
        ]

    return app
