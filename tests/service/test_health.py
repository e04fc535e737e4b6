"""Probes and metadata say what serves."""

from fastapi.testclient import TestClient

from patient.artefact import fingerprint
from service.predictor import Predictor


def test_live(client: TestClient) -> None:
    """The process answers."""
    assert client.get("/health/live").json() == {"status": "live"}


def test_ready_names_version_and_provider(client: TestClient, predictor: Predictor) -> None:
    """Whoever looks knows what answers, and on what."""
    assert client.get("/health/ready").json() == {
        "status": "ready",
        "model_version": predictor.version,
        "provider": "CPUExecutionProvider",
        "fallback": None,
        "crossover": None,
    }


def test_model_tells_what_made_it(client: TestClient) -> None:
    """The metadata of the file, whole."""
    told = client.get("/model").json()
    assert told["fingerprint"] == fingerprint()
    assert told["data"]["rows"] == 303
    assert {"flags", "metrics", "libraries", "created", "threshold", "fields", "version"} <= set(told)
