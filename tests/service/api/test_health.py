"""Probes and metadata name the model that serves."""

import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

from fastapi.testclient import TestClient
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from patient.artefact import fingerprint
from patient.record import EXAMPLE
from service.app import create_app
from service.model.predictor import Predictor
from service.observe.metrics import Metrics
from service.settings import Settings
from tests.conftest import ROOT


def test_live(client: TestClient) -> None:
    """The process runs."""
    assert client.get("/health/live").json() == {"status": "live"}


def test_ready_names_version_and_provider(client: TestClient, predictor: Predictor) -> None:
    """An operator sees which model runs, and on which device."""
    assert client.get("/health/ready").json() == {
        "status": "ready",
        "model_version": predictor.version,
        "provider": "CPUExecutionProvider",
        "fallback": None,
        "crossover": None,
        "workers": 1,
    }


def test_a_worker_that_is_not_ready_makes_the_service_unready(predictor: Predictor, tmp_path: Path) -> None:
    """Whichever worker the probe reaches; a worker that has ended no longer counts."""
    metrics = Metrics(tmp_path)
    with TestClient(create_app(Settings(), predictor, metrics)) as client:
        assert client.get("/health/ready").json()["workers"] == 1
        code = "import sys; from pathlib import Path; from service.observe.metrics import Metrics\n"
        code += "metrics = Metrics(Path(sys.argv[1])); metrics.set_gauge('ready', 0); print('told', flush=True)\n"
        code += "sys.stdin.read()"
        with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdin=PIPE, stdout=PIPE) as other:
            assert other.stdout
            other.stdout.readline()
            refused = client.get("/health/ready")
            assert (refused.status_code, refused.json()["detail"]) == (
                503,
                "Only 1 of 2 worker processes can score records.",
            )
            other.kill()
        assert client.get("/health/ready").json()["workers"] == 1


def test_prometheus_can_parse_the_metrics(client: TestClient) -> None:
    """Counts of runs and rows, and the model that serves."""
    before = {s.name: s.value for family in parse(client) for s in family.samples if s.labels.get("way") == "batch"}
    client.post("/predict/batch", json=[EXAMPLE] * 3)
    families = {family.name: family for family in parse(client)}
    after = {s.name: s.value for family in families.values() for s in family.samples if s.labels.get("way") == "batch"}
    assert after["heart_rows_total"] - before["heart_rows_total"] == 3
    assert after["heart_runs_total"] - before["heart_runs_total"] == 1
    assert families["heart_model_info"].samples[0].labels["provider"] == "CPUExecutionProvider"
    assert families["heart_workers"].samples[0].value == 1


def parse(client: TestClient) -> list[Metric]:
    """Read /metrics with Prometheus's own parser."""
    return list(text_string_to_metric_families(client.get("/metrics").text))


def test_model_returns_the_whole_metadata(client: TestClient) -> None:
    """As the model file holds it."""
    told = client.get("/model").json()
    assert told["fingerprint"] == fingerprint()
    assert told["data"]["rows"] == 303
    assert {"flags", "metrics", "libraries", "created", "threshold", "fields", "version"} <= set(told)
