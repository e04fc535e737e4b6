"""Requests of the Open Inference Protocol v2, and what is in their answers."""

import json
from typing import Any

import numpy as np

from patient.encoding import Floats
from service.api.v2.messages import JSON_LENGTH_HEADER as HEADER

MODEL = "/v2/models/heart_disease"
INFER = MODEL + "/infer"


def tensor(rows: Floats, name: str = "patient", **other: Any) -> dict[str, Any]:
    """A JSON tensor of float[N,13] or of a column, flat, null for NaN."""
    data = [None if value != value else value for value in rows.ravel().tolist()]
    return {"name": name, "shape": list(rows.shape), "datatype": "FP32", "data": data} | other


def binary(*tensors: tuple[str, Floats], **request: Any) -> tuple[bytes, dict[str, str]]:
    """The body and headers of a request with binary tensors."""
    inputs = [
        {
            "name": name,
            "shape": list(rows.shape),
            "datatype": "FP32",
            "parameters": {"binary_data_size": 4 * rows.size},
        }
        for name, rows in tensors
    ]
    head = json.dumps({"inputs": inputs} | request).encode()
    return head + b"".join(rows.astype("<f4").tobytes() for _, rows in tensors), {HEADER: str(len(head))}


def probabilities(response: Any) -> list[float]:
    """The probabilities in a right answer, JSON or binary."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(HEADER, len(response.content)))
    answer = json.loads(response.content[:length])
    assert set(answer) - {"id"} == {"model_name", "model_version", "outputs"}
    (output,) = answer["outputs"]
    if HEADER in response.headers:
        rest = response.content[length:]
        assert response.headers["content-type"] == "application/octet-stream"
        assert output.pop("parameters") == {"binary_data_size": len(rest)}
        found = np.frombuffer(rest, "<f4").tolist()
    else:
        assert response.headers["content-type"] == "application/json"
        found = output.pop("data")
    assert output == {"name": "probability", "datatype": "FP32", "shape": [len(found), 1]}
    return list(map(float, found))


def error(response: Any, status: int = 400) -> str:
    """What is wrong, once the form of the answer is right."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert list(answer) == ["error"]
    assert isinstance(answer["error"], str)
    assert answer["error"]
    return str(answer["error"])
