"""When the model is replaced during requests, each response comes from one version and names it."""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from patient.record import EXAMPLE, FIELDS
from service.api import json_batch as array
from service.api.state import AppState
from service.app import create_app, with_middleware
from service.model.loading import load
from service.model.predictor import Predictor
from service.observe.metrics import ROWS, Metrics
from service.records.decoding import PART_ROWS, Values
from service.settings import Settings
from tests.versions import make, probability_of

VALUES: Values = tuple(EXAMPLE[name] for name in FIELDS)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Predictor, Predictor]:
    """Two versions."""
    models = tmp_path_factory.mktemp("models")
    found = []
    for version in (1, 2):
        make(models, version)
        found.append(load(models, "cpu"))
    return found[0], found[1]


def test_an_array_is_scored_by_one_version_in_all_its_parts(pair: tuple[Predictor, Predictor]) -> None:
    """Also when the model changes between two parts; requests that arrive meanwhile get the new one."""

    async def work() -> None:
        state = AppState(Settings(), Metrics())
        state.serve(pair[0])
        parts = asyncio.create_task(array.predict_array(state, json.dumps([EXAMPLE] * 5 * PART_ROWS).encode(), ""))
        while state.metrics.snapshot().total(ROWS, "batch") < 2 * PART_ROWS:
            await asyncio.sleep(0)
        state.serve(pair[1])
        model, probability = await state.batcher.submit(VALUES)
        assert not parts.done()
        assert (model.version, probability) == ("2", probability_of(2))
        answer = json.loads(await parts)
        assert answer["model_version"] == "1"
        told = {prediction["probability"] for prediction in answer["predictions"]}
        assert told == {probability_of(1)}

    asyncio.run(work())


def test_waiting_records_are_scored_by_the_version_that_serves_when_they_run(pair: tuple[Predictor, Predictor]) -> None:
    """All records of a run by the same version, which each result names."""

    async def work() -> None:
        state = AppState(Settings(), Metrics())
        state.serve(pair[0])
        before = [state.batcher.submit(VALUES) for _ in range(3)]
        state.serve(pair[1])
        for model, probability in await asyncio.gather(*before):
            assert (model.version, probability) == ("2", probability_of(2))

    asyncio.run(work())


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[tuple[TestClient, Path]]:
    """An app that polls its model folder all the time, and that folder, with version 1."""
    make(tmp_path, 1)
    with TestClient(with_middleware(create_app(Settings(models=tmp_path, provider="cpu", watch=0.01)))) as client:
        yield client, tmp_path


def until(client: TestClient, version: str) -> None:
    """This version serves."""
    for _ in range(500):
        if client.get("/health/ready").json()["model_version"] == version:
            return
        time.sleep(0.01)
    raise AssertionError(f"version {version} did not come")


def test_every_endpoint_names_the_version_that_serves(watching: tuple[TestClient, Path]) -> None:
    """Results, probe, metadata and metrics."""
    client, models = watching
    for version in ("1", "2"):
        if version == "2":
            make(models, 2)
        until(client, version)
        assert client.post("/predict", json=EXAMPLE).json()["model_version"] == version
        assert client.post("/predict/batch", json=[EXAMPLE]).json()["model_version"] == version
        csv = ",".join(FIELDS) + "\n" + ",".join(map(str, VALUES)) + "\n"
        table = client.post("/predict/batch", content=csv, headers={"Content-Type": "text/csv"})
        assert table.headers["x-model-version"] == version
        assert client.get("/model").json()["version"] == version
        info = next(line for line in client.get("/metrics").text.splitlines() if line.startswith("heart_model_info"))
        assert {f'version="{version}"', 'provider="CPUExecutionProvider"'} <= set(re.split("[{},]", info))


def test_metrics_count_loaded_and_rejected_versions(watching: tuple[TestClient, Path]) -> None:
    """By outcome."""
    client, models = watching
    make(models, 2)
    until(client, "2")
    make(models, 3).write_bytes(b"garbage")
    for _ in range(500):
        if 'heart_reloads_total{outcome="refused"} 1.0' in client.get("/metrics").text:
            break
        time.sleep(0.01)
    else:
        raise AssertionError("it was not counted")
    assert 'heart_reloads_total{outcome="loaded"} 1.0' in client.get("/metrics").text
    assert client.get("/health/ready").json()["model_version"] == "2"


def test_a_predictor_passed_to_create_app_is_never_replaced(pair: tuple[Predictor, Predictor], tmp_path: Path) -> None:
    """Whatever versions are in the folder."""
    make(tmp_path, 9)
    with TestClient(create_app(Settings(models=tmp_path, provider="cpu", watch=0.001), pair[0])) as client:
        for _ in range(20):
            assert client.get("/health/ready").json()["model_version"] == "1"
