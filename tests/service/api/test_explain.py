"""POST /explain: the result of /predict, with contributions that add up to it and readable labels."""

import asyncio
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given, settings

from patient.artefact import FILE, INPUT
from patient.encoding import Floats, as_array
from patient.record import EXAMPLE, FIELDS, PatientRecord
from service.api.explain import MAX_RECORDS
from service.api.state import AppState
from service.app import create_app
from service.explain.explanation import explain, log_odds
from service.model.predictor import Predictor
from service.model.session import create_cpu_session
from service.records.decoding import MAX_RECORD_BYTES, Values
from service.records.schema import Explanation
from service.settings import Settings
from tests.conftest import MODELS
from tests.service.explain.test_shapley import patients
from tests.service.http.test_problems import problem

GAPS = {**EXAMPLE, "ca": None, "thal": None}
ODDLY = dict.fromkeys(FIELDS) | {"age": 50, "sex": 0}  # nothing else is known


@pytest.fixture
def reasons(predictor: Predictor) -> Iterator[TestClient]:
    """An app of its own."""
    with TestClient(create_app(Settings(), predictor), raise_server_exceptions=False) as client:
        yield client


def state_of(client: TestClient) -> AppState:
    """The state of its app."""
    assert isinstance(client.app, FastAPI)
    state: AppState = client.app.state.heart
    return state


@settings(deadline=None, max_examples=25)
@given(patients())
def test_contributions_add_up_to_the_prediction(predictor: Predictor, values: Values) -> None:
    """Base value and contributions to the log-odds, the log-odds to the probability."""
    told = explain(predictor, values)
    total = told.base_value + sum(one.contribution for one in told.contributions)
    assert total == pytest.approx(told.log_odds, abs=1e-5)
    assert 1 / (1 + math.exp(-told.log_odds)) == pytest.approx(told.probability, abs=2e-7)
    assert 1 / (1 + math.exp(-told.base_value)) == pytest.approx(told.base_probability, abs=1e-6)
    assert told.probability == pytest.approx(float(predictor(as_array([values]).astype(np.float32))[0]), abs=2e-7)
    assert told.heart_disease == (told.probability >= told.threshold)


def test_an_explanation_has_the_prediction_and_thirteen_contributions(client: TestClient) -> None:
    """The same numbers as /predict; each measurement once, the largest first."""
    for record in (EXAMPLE, GAPS, ODDLY):
        told = client.post("/explain", json=record).json()
        Explanation.model_validate(told)
        predicted = client.post("/predict", json=record).json()
        assert told["probability"] == pytest.approx(predicted.pop("probability"), abs=2e-7)
        assert predicted.items() <= told.items()
        assert {one["feature"]: one["value"] for one in told["contributions"]} == record
        sizes = [abs(one["contribution"]) for one in told["contributions"]]
        assert sizes == sorted(sizes, reverse=True)


def test_labels_are_readable(client: TestClient) -> None:
    """A number with its unit, a word for a code, and a note for a missing value."""
    labels = {one["feature"]: one["label"] for one in client.post("/explain", json=GAPS).json()["contributions"]}
    assert labels["thalach"] == "Maximum heart rate 150 beats/min"
    assert labels["oldpeak"] == "ST depression 2.3 mm"
    assert labels["cp"] == "Chest pain type: typical angina"
    assert labels["thal"] == "Thallium scan not taken"


def test_a_counterfactual_value_changes_the_prediction(client: TestClient) -> None:
    """/predict gives the opposite result for the record with that value."""
    for record in (EXAMPLE, GAPS, {**EXAMPLE, "exang": 1}):
        told = client.post("/explain", json=record).json()
        turned = [change for change in told["changes"] if change["to"] is not None]
        assert turned
        for change in turned:
            again = client.post("/predict", json=record | {change["feature"]: change["to"]}).json()
            assert again["heart_disease"] != told["heart_disease"]
            assert again["probability"] == pytest.approx(change["probability"], abs=2e-7)
            assert change["label"].endswith(("no heart disease.", "predict heart disease."))
            assert ("no heart" in change["label"]) == told["heart_disease"]
        assert "not advice" in told["note"]


def test_an_array_gets_an_array_of_explanations_in_order(client: TestClient) -> None:
    """Each is the same as for a single record."""
    records = [EXAMPLE | {"age": 40 + i} for i in range(MAX_RECORDS - 1)] + [GAPS]
    answers = client.post("/explain", json=records).json()
    assert answers == [client.post("/explain", json=record).json() for record in records]
    assert client.post("/explain", json=[EXAMPLE]).json() == [client.post("/explain", json=EXAMPLE).json()]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_an_array_in_another_encoding_is_read(client: TestClient, encoding: str) -> None:
    """As a record is."""
    content = json.dumps([EXAMPLE]).encode(encoding)
    response = client.post("/explain", content=content, headers={"Content-Type": "application/json"})
    assert response.json() == client.post("/explain", json=[EXAMPLE]).json()


@pytest.mark.parametrize(
    ("content", "status", "pointers"),
    [
        (json.dumps({**EXAMPLE, "chol": 0}), 422, ["/chol"]),
        (json.dumps([EXAMPLE, {**EXAMPLE, "chol": 0, "thal": 4}]), 422, ["/1/chol", "/1/thal"]),
        (json.dumps(EXAMPLE)[:-1] + ', "age": 64}', 422, ["/age"]),
        ("[" + json.dumps(EXAMPLE)[:-1] + ', "age": 64}]', 422, ["/0/age"]),
        (json.dumps(EXAMPLE).replace("150", "NaN"), 422, ["/thalach"]),
        ("[]", 422, [""]),
        ("[[]]", 422, ["/0"]),
        ("[null]", 422, ["/0"]),
        ("3", 422, [""]),
        ('"[]"', 422, [""]),
        ("", 400, []),
        ("[", 400, []),
        ("[" * 4000, 400, []),
        (" \n" + json.dumps(EXAMPLE) + "]", 400, []),
    ],
)
def test_an_invalid_body_gets_the_errors_of_predict(
    client: TestClient, content: str, status: int, pointers: list[str]
) -> None:
    """The same status and texts as /predict and /predict/batch."""
    response = client.post("/explain", content=content, headers={"Content-Type": "application/json"})
    assert [error.pointer for error in problem(response, status).errors or []] == pointers


def test_more_than_sixteen_records_or_a_larger_body_is_413(client: TestClient) -> None:
    """An explanation costs a thousand predictions."""
    assert (
        "the limit of a JSON array is 16. Send the others"
        in problem(client.post("/explain", json=[EXAMPLE] * (MAX_RECORDS + 1)), 413).detail
    )
    headers = {"Content-Type": "application/json"}
    problem(client.post("/explain", content=b" " * MAX_RECORD_BYTES + b"1", headers=headers), 413)
    problem(client.post("/explain", content="age=63"), 415)


def test_a_model_without_background_says_so(predictor: Predictor) -> None:
    """A version without background patients predicts, but gets 409 here."""
    metadata = predictor.metadata.model_copy(update={"background": [], "version": "1"})
    with TestClient(create_app(Settings(), replace(predictor, metadata=metadata))) as client:
        assert "version 1 has no background" in problem(client.post("/explain", json=EXAMPLE), 409).detail
        assert client.post("/predict", json=EXAMPLE).status_code == 200


def test_beyond_the_queue_explanations_get_503_with_retry_after(reasons: TestClient) -> None:
    """The length of the queue is a setting."""
    queue = state_of(reasons).explanations.queue
    assert queue.total == Settings().max_explanations
    queue.taken = queue.total + 1
    response = reasons.post("/explain", json=EXAMPLE)
    assert "Too many explanations" in problem(response, 503).detail
    assert response.headers["retry-after"] == "1"
    assert reasons.post("/predict/batch", json=[EXAMPLE]).status_code == 200
    queue.taken = 0
    assert reasons.post("/explain", json=EXAMPLE).status_code == 200


def test_other_requests_are_served_while_an_explanation_is_computed(reasons: TestClient, monkeypatch: Any) -> None:
    """It runs in a thread, one at a time: a second explanation waits, a prediction does not."""
    state = state_of(reasons)
    seen: list[bool] = []

    async def other(values: Values) -> object:
        return await state.batcher.submit(values)

    def slow(model: Predictor, values: Values) -> Explanation:
        assert asyncio.run_coroutine_threadsafe(other(values), state.batcher.loop).result(5)  # the loop is free
        seen.append(state.explanations.lock.locked())
        return explain(model, values)

    reasons.post("/predict", json=EXAMPLE)  # from here on the loop is known
    monkeypatch.setattr("service.api.explain.explain", slow)
    assert reasons.post("/explain", json=[EXAMPLE, GAPS]).status_code == 200
    assert seen == [True, True]


def test_log_odds_are_those_of_the_network_within_1e_4(predictor: Predictor, cleveland: Any) -> None:
    """Within -6 to 6; beyond, the digits of the rounded probability are too coarse."""
    file = onnx.load(MODELS / predictor.version / FILE)
    sigmoid = next(node for node in file.graph.node if node.op_type == "Sigmoid")
    file.graph.output.append(onnx.helper.make_empty_tensor_value_info(sigmoid.input[0]))
    generator = np.random.default_rng(0)
    rows: Floats = np.vstack([generator.permutation(column) for column in cleveland.rows.repeat(20, axis=0).T]).T.copy()
    rows[generator.random(rows.shape) < 0.1] = np.nan
    exact = create_cpu_session(file.SerializeToString()).run([sigmoid.input[0]], {INPUT: rows})[0].ravel()
    within = np.abs(exact) <= 6
    assert within.mean() > 0.99
    assert np.abs(log_odds(predictor, rows) - exact)[within].max() < 1e-4


def test_a_probability_rounded_to_0_or_1_has_finite_log_odds() -> None:
    """They end at half the last digit of a probability."""
    found = log_odds(lambda rows: rows[:, 0], np.array([[0], [1e-30], [1]], np.float32))
    assert found == pytest.approx([-16.8, -16.8, 16.8], abs=0.1)


def test_the_schema_says_which_measurements_can_change(client: TestClient) -> None:
    """And within which range."""
    properties = client.get("/openapi.json").json()["components"]["schemas"]["PatientRecord"]["properties"]
    assert not properties["age"]["modifiable"]
    assert properties["oldpeak"]["plausible"] == {"minimum": 0, "maximum": 6.5, "step": 0.1}
    assert properties["cp"]["plausible"] == [1, 2, 3, 4]
    assert set(PatientRecord.model_fields) == set(properties)


def test_a_client_that_disconnects_stops_the_work(reasons: TestClient, monkeypatch: Any) -> None:
    """Its remaining records are not explained."""
    made: list[Values] = []
    monkeypatch.setattr("service.api.explain.explain", lambda _model, values: made.append(values))
    body, app = json.dumps([EXAMPLE] * 3).encode(), reasons.app
    messages = [{"type": "http.request", "body": body}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(_message: Any) -> None:
        pass

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/explain",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }

    async def asked() -> None:
        await app(scope, receive, send)

    asyncio.run(asked())
    assert made == []
    assert not state_of(reasons).explanations.lock.locked()
