"""POST /predict and /predict/batch: every valid record gets a result, in order, and no invalid one does."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message

from patient.codebook import FEW_ROWS
from patient.record import EXAMPLE, FIELDS, Measurement, measurements
from service.app import create_app
from service.model.predictor import Predictor
from service.records.decoding import MAX_RECORD_BYTES
from service.records.schema import BatchPrediction, Prediction
from service.settings import Settings

NAMES = {field.name: field for field in measurements()}


def valid(field: Measurement) -> st.SearchStrategy[Any]:
    """Any valid value of the field, codes also as floats."""
    values: st.SearchStrategy[Any]
    if field.codes:
        values = st.sampled_from([kind(code) for code in field.codes for kind in (int, float)])
    else:
        values = st.floats(field.low, field.high) | st.integers(int(field.low), int(field.high))
    return st.none() | values if field.nullable else values


def invalid(field: Measurement) -> st.SearchStrategy[Any]:
    """Invalid values of the field."""
    outside = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**40), 10**40)
    wrong = outside.filter(lambda x: x not in field.codes if field.codes else not field.low <= x <= field.high)
    others = [st.text(), st.booleans(), st.lists(st.none()), st.dictionaries(st.text(), st.none())]
    return st.one_of(wrong, *others, *([] if field.nullable else [st.none()]))


RECORDS = st.fixed_dictionaries({name: valid(field) for name, field in NAMES.items()})


def batches(max_size: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Records of a batch. Where chest pain is 0 in more than a few, it may be refused as one in Kaggle's codes."""
    records = st.lists(RECORDS, min_size=1, max_size=max_size)
    return records.filter(lambda rows: sum(row["cp"] == 0 for row in rows) <= FEW_ROWS)


def scored(client: TestClient, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The batch's predictions."""
    response = client.post("/predict/batch", json=records)
    assert response.status_code == 200, response.text
    predictions = response.json()["predictions"]
    assert isinstance(predictions, list)
    return predictions


def test_one_patient(client: TestClient, predictor: Predictor) -> None:
    """The result has the documented shape, and names the missing fields and the model version."""
    response = client.post("/predict", json=EXAMPLE | {"ca": None, "chol": None})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = Prediction.model_validate_json(response.content, strict=True)
    assert answer.missing == ["chol", "ca"]
    assert answer.model_version == predictor.version
    assert answer.heart_disease == (answer.probability >= answer.threshold)
    assert list(response.json()) == ["probability", "heart_disease", "missing", "threshold", "model_version"]


def test_a_batch(client: TestClient) -> None:
    """One result per record; model version and threshold once."""
    response = client.post("/predict/batch", json=[EXAMPLE, EXAMPLE | {"thal": None}])
    answer = BatchPrediction.model_validate_json(response.content, strict=True)
    assert [p.missing for p in answer.predictions] == [[], ["thal"]]


def test_chest_pain_0_is_answered_as_null_and_named(client: TestClient) -> None:
    """The lecture's table has the code, the data do not: single records, batches and explanations say so."""
    zero, null = EXAMPLE | {"cp": 0}, EXAMPLE | {"cp": None}
    told = client.post("/predict", json=zero)
    assert told.json()["missing"] == ["cp"]
    assert told.content == client.post("/predict", json=null).content
    assert client.post("/predict", json=EXAMPLE | {"cp": 0.0, "ca": None}).json()["missing"] == ["cp", "ca"]
    batch = client.post("/predict/batch", json=[EXAMPLE, zero, null]).json()["predictions"]
    assert [answer["missing"] for answer in batch] == [[], ["cp"], ["cp"]]
    assert batch[1] == batch[2]
    explained = client.post("/explain", json=zero).json()
    assert explained["missing"] == ["cp"]
    assert "Chest pain type: unspecified; asymptomatic is 4" in [one["label"] for one in explained["contributions"]]
    assert "cp" in [change["feature"] for change in explained["changes"]]
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name in ("Prediction", "Explanation", "RowAnswer"):
        assert "0 (unspecified) in cp" in schemas[name]["properties"]["missing"]["description"]


@given(RECORDS)
@settings(deadline=None)
def test_every_valid_record_gets_a_probability(client: TestClient, record: dict[str, Any]) -> None:
    """Never a 4xx."""
    response = client.post("/predict", json=record)
    assert response.status_code == 200, response.text
    assert 0 <= response.json()["probability"] <= 1
    assert response.json()["missing"] == [n for n in FIELDS if record[n] is None or (n == "cp" and record[n] == 0)]


@given(RECORDS, st.sampled_from(list(NAMES)).flatmap(lambda name: st.tuples(st.just(name), invalid(NAMES[name]))))
@settings(deadline=None)
def test_an_invalid_field_is_always_rejected_by_name(
    client: TestClient, record: dict[str, Any], change: tuple[str, Any]
) -> None:
    """422, with a pointer to that field and to no other."""
    name, value = change
    response = client.post("/predict", json=record | {name: value})
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == [f"/{name}"]


@given(batches(20).flatmap(lambda rs: st.tuples(st.just(rs), st.permutations(rs))))
@settings(deadline=None, max_examples=50)
def test_permuting_a_batch_permutes_its_results(client: TestClient, lists: tuple[list[Any], list[Any]]) -> None:
    """A result depends only on its record."""
    records, permuted = lists
    by_record = {json.dumps(r): a for r, a in zip(records, scored(client, records), strict=True)}
    for record, answer in zip(permuted, scored(client, permuted), strict=True):
        expected = by_record[json.dumps(record)]
        assert answer == expected | {"probability": pytest.approx(expected["probability"], abs=2e-7)}


@given(batches(5))
@settings(deadline=None, max_examples=50)
def test_a_batch_gives_the_results_of_single_requests(client: TestClient, records: list[dict[str, Any]]) -> None:
    """To the last digit that rounding leaves."""
    for record, answer in zip(records, scored(client, records), strict=True):
        single = client.post("/predict", json=record).json()
        assert answer["probability"] == pytest.approx(single["probability"], abs=2e-7)
        assert answer["missing"] == single["missing"]


def test_a_large_batch_keeps_its_order(client: TestClient, predictor: Predictor) -> None:
    """With more rows than one run of the model takes."""
    ages = np.linspace(18, 120, 9000)
    answers = scored(client, [EXAMPLE | {"age": age} for age in ages])
    row = np.array([EXAMPLE[name] for name in FIELDS], np.float32)
    rows = np.tile(row, (9000, 1))
    rows[:, 0] = ages
    assert [a["probability"] for a in answers] == pytest.approx(predictor(rows), abs=1e-6)


def test_the_order_of_keys_does_not_matter(client: TestClient) -> None:
    """A JSON object is unordered."""
    shuffled = dict(sorted(EXAMPLE.items(), reverse=True))
    assert client.post("/predict", json=shuffled).json() == client.post("/predict", json=EXAMPLE).json()


def test_a_charset_in_the_content_type_is_accepted(client: TestClient) -> None:
    """Clients send it, although JSON is always UTF-8."""
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.post("/predict", content=json.dumps(EXAMPLE), headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_a_record_may_have_16_kib(client: TestClient, path: str) -> None:
    """The error names the limit, and no more is read than that."""
    content = json.dumps(EXAMPLE).encode().ljust(MAX_RECORD_BYTES)
    headers = {"Content-Type": "application/json"}
    assert client.post(path, content=content, headers=headers).status_code == 200
    for body in (content + b" ", iter([content, b" "])):  # with Content-Length, and in chunks
        response = client.post(path, content=body, headers=headers)
        assert response.status_code == 413
        assert str(MAX_RECORD_BYTES) in response.json()["detail"]


@pytest.mark.parametrize("path", ["/predict", "/explain", "/predict/batch", "/v2/models/heart_disease/infer"])
def test_a_body_that_announces_too_many_bytes_is_not_read(predictor: Predictor, path: str) -> None:
    """Nor asked for: `100 Continue` is sent when the body is read first."""
    app = create_app(Settings(), predictor)
    app.state.heart.serve(predictor)
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("read")

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"999999999")]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}

    async def call() -> None:
        await app(scope | {"asgi": {"version": "3.0"}, "http_version": "1.1"}, receive, send)

    asyncio.run(call())
    assert sent[0]["status"] == 413


@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_an_answer_lists_a_hundred_errors(client: TestClient, path: str) -> None:
    response = client.post(path, json=dict.fromkeys(map(str, range(1500)), 0) | {"a": 1})
    problem = response.json()
    assert (response.status_code, len(problem["errors"])) == (422, 100)
    assert "more than 100 errors" in problem["detail"]
