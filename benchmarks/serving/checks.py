"""Check each server's predictions against ONNX Runtime before anything is timed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.serving.patients import INVALID, Bodies, line, untaken
from benchmarks.serving.process import Failed, Running
from benchmarks.serving.servers import FIXED, OURS, Patient

TOLERANCE = 1e-5
WRAPPINGS = ("predictions", "probability", "outputs", "data")


def reference(model: Path, patients: list[Patient]) -> NDArray[np.float32]:
    """float32[N] from the model in this process."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    rows = np.array([list(patient.values()) for patient in patients], np.float32)
    probabilities: NDArray[np.float32] = session.run(["probability"], {"patient": rows})[0][:, 0]
    return probabilities


def probabilities(answer: Any) -> list[float]:
    """All probabilities in a response, whatever its shape."""
    if isinstance(answer, dict):
        return next((probabilities(answer[key]) for key in WRAPPINGS if key in answer), [])
    if isinstance(answer, list):
        return [value for part in answer for value in probabilities(part)]
    return [answer] if isinstance(answer, float | int) else []


def same(answer: Any, expected: NDArray[np.float32]) -> bool:
    """Whether these are the probabilities, in this order."""
    found = probabilities(answer)
    return len(found) == len(expected) and np.allclose(found, expected, rtol=0, atol=TOLERANCE)


def check(running: Running, bodies: Bodies, model: Path) -> str:
    """Which invalid values the server rejects: "type", "range". Raises Failed if a prediction is wrong."""
    server = running.server
    if server.name in FIXED:
        return "-"
    lacking = [patient for patient in bodies.singles if None in patient.values()]
    singles = [*bodies.singles[:8], *lacking[:2], untaken(bodies.singles[0])]
    cases: list[tuple[str, Patient | list[Patient], list[Patient]]]
    cases = [(server.single, patient, [patient]) for patient in singles]
    cases += [(server.batch, many, many) for many in (bodies.batches[0], singles)]
    for path, case, patients in cases:
        status, content = running.post(path, line(server, case))
        if status != 200 or not same(json.loads(content), reference(model, patients)):
            raise Failed(f"answers wrongly: {status} at {path} {content[:100].decode(errors='replace')}")
    refused = []
    for (name, value), kind in zip(INVALID.items(), ("type", "range"), strict=True):
        status, _ = running.post(server.single, line(server, bodies.singles[0] | {name: value}))
        refused += [kind] if 400 <= status < 500 else [f"{kind} as {status}"] if status >= 500 else []
    return ", ".join(refused) or "nothing"


def keep_answers(running: Running, bodies: Bodies, work: Path) -> None:
    """Our service's responses, for the ceiling to repeat: responses of the same size cost the same to send."""
    if running.server.name == OURS:
        for kind, path, case in (
            ("single", "/predict", bodies.singles[0]),
            ("batch", "/predict/batch", bodies.batches[0]),
        ):
            (work / f"{kind}.answer").write_bytes(running.post(path, line(running.server, case))[1])
