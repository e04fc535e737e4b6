"""The service of a typical FastAPI tutorial: Pydantic in and out, encoding in Python, one model run per request.

Its graph begins at the 29 encoded inputs; tutorial_model.py cuts it out of our file.
"""

import json
import os
from pathlib import Path

import numpy as np
from fastapi import FastAPI

from benchmarks.peers.heart import Patient, Prediction, session

WORK = Path(os.environ["BENCH_WORK"])
SCALES = json.loads((WORK / "tutorial.json").read_text())  # name: [mean, 1 / deviation]
CODES = {
    "sex": (0, 1),
    "cp": (0, 1, 2, 3, 4),
    "fbs": (0, 1),
    "restecg": (0, 1, 2),
    "exang": (0, 1),
    "slope": (1, 2, 3),
    "ca": (0, 1, 2, 3),
    "thal": (3, 6, 7),
}

app = FastAPI()
model = session(str(WORK / "tutorial.onnx"))


def encode(patient: Patient) -> list[float]:
    """The 29 inputs: standardised numbers, then one-hot codes; a missing value is all zeros."""
    row = []
    for name, (mean, scale) in SCALES.items():
        value = getattr(patient, name)
        row.append(0.0 if value is None else (value - mean) * scale)
    for name, codes in CODES.items():
        value = getattr(patient, name)
        row.extend(1.0 if value == code else 0.0 for code in codes)
    return row


def infer(patients: list[Patient]) -> list[Prediction]:
    """One run of the model."""
    encoded = np.array([encode(patient) for patient in patients], np.float32)
    return [Prediction(probability=float(p)) for p in model.run(None, {"encoded": encoded})[0][:, 0]]


@app.post("/predict", response_model=Prediction)
async def predict(patient: Patient) -> Prediction:
    """One record."""
    return infer([patient])[0]


@app.post("/predict/batch", response_model=list[Prediction])
async def predict_batch(patients: list[Patient]) -> list[Prediction]:
    """Many."""
    return infer(patients)
