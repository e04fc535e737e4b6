"""The Open Inference Protocol v2: right results for every valid request."""

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from patient.record import EXAMPLE, FIELDS, measurements
from service.api.v2.messages import JSON_LENGTH_HEADER as HEADER
from service.app import create_app
from service.model.predictor import Predictor
from service.observe.metrics import ROWS
from service.records.results import rounded
from service.settings import Settings
from tests.service.api.v2.v2 import INFER, MODEL, binary, error, probabilities, tensor
from trainer.dataset import Dataset


@pytest.fixture(scope="module")
def expected(predictor: Predictor, cleveland: Dataset) -> list[float]:
    """The model's own probabilities for the 303 records."""
    found: list[float] = rounded(predictor(cleveland.rows)).tolist()
    return found


def test_the_server_and_its_model_are_described(client: TestClient, predictor: Predictor) -> None:
    """Health, server, model, readiness and index, with and without the version in the path."""
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2").json() == {
        "name": "heart",
        "version": "1",
        "extensions": ["binary_tensor_data", "model_configuration"],
    }
    for path in (MODEL, f"{MODEL}/versions/{predictor.version}"):
        assert client.get(path).json() == {
            "name": "heart_disease",
            "versions": [predictor.version],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "patient", "datatype": "FP32", "shape": [-1, 13]}],
            "outputs": [{"name": "probability", "datatype": "FP32", "shape": [-1, 1]}],
        }
        assert client.get(path + "/ready").json() == {"name": "heart_disease", "ready": True}
    served = {"name": "heart_disease", "version": predictor.version, "state": "READY", "reason": ""}
    assert client.post("/v2/repository/index").json() == [served]


@pytest.mark.parametrize("count", [1, 2, 303])
@pytest.mark.parametrize("out", [{}, {"parameters": {"binary_data_output": True}}])
def test_json_and_binary_flat_and_nested_whole_and_by_field_give_the_same_results(
    client: TestClient, predictor: Predictor, cleveland: Dataset, expected: list[float], count: int, out: dict[str, Any]
) -> None:
    """Every form of a request; missing values are null in JSON and NaN in bytes."""
    rows = cleveland.rows[:count]
    flat = tensor(rows)
    nested = flat | {"data": [flat["data"][i : i + 13] for i in range(0, len(flat["data"]), 13)]}
    columns = [tensor(column, name) for name, column in zip(FIELDS, rows.T, strict=True)]
    standing = [tensor(rows[:, [i]], name) for i, name in enumerate(FIELDS)][::-1]
    piled = [{**column, "data": [[value] for value in column["data"]]} for column in standing]
    path = f"{MODEL}/versions/{predictor.version}/infer"
    for inputs in ([flat], [nested], columns, standing, piled):
        found = probabilities(client.post(path, content=json.dumps({"inputs": inputs} | out)))
        assert found == pytest.approx(expected[:count], abs=1e-6)
    by_field = [(name, rows[:, i]) for i, name in enumerate(FIELDS)]
    for tensors in ([("patient", rows)], by_field, by_field[::-1]):
        content, headers = binary(*tensors, **out)
        found = probabilities(client.post(INFER, content=content, headers=headers))
        assert found == pytest.approx(expected[:count], abs=1e-6)
    del columns[0]["data"]  # the others stay JSON
    head = json.dumps(
        {"inputs": [*columns[1:], columns[0] | {"parameters": {"binary_data_size": 4 * count}}]} | out
    ).encode()
    content = head + rows[:, 0].astype("<f4").tobytes()
    found = probabilities(client.post(INFER, content=content, headers={HEADER: str(len(head))}))
    assert found == pytest.approx(expected[:count], abs=1e-6)


def test_the_parameters_of_an_output_override_those_of_the_request(client: TestClient) -> None:
    """An id is returned only if there was one; unknown parameters are ignored."""
    one = tensor(np.array([[*EXAMPLE.values()]], np.float32))
    for whole, own, came in [(True, False, False), (False, True, True), (True, None, True), (None, None, False)]:
        output = {"name": "probability", "parameters": None if own is None else {"binary_data": own, "x": 1}}
        body = {"inputs": [one], "outputs": [output], "parameters": {"binary_data_output": whole, "priority": 3}}
        response = client.post(INFER, json=body)
        assert (HEADER in response.headers) is came
        assert len(probabilities(response)) == 1
    assert client.post(INFER, json={"inputs": [one], "id": "a:7"}).json()["id"] == "a:7"
    nothings: list[dict[str, Any]] = [{}, {"id": None, "outputs": None, "parameters": None}, {"outputs": []}]
    for nothing in nothings:
        assert "id" not in client.post(INFER, json={"inputs": [one]} | nothing).json()


def test_nan_in_json_means_null_as_tritonclient_writes_it(client: TestClient) -> None:
    """NaN is not valid JSON, but tritonclient writes missing values so; infinity is rejected."""
    row = EXAMPLE | {"ca": None}
    content = json.dumps({"inputs": [tensor(np.array([[np.nan if v is None else v for v in row.values()]]))]})
    null = probabilities(client.post(INFER, content=content))
    assert probabilities(client.post(INFER, content=content.replace("null", "NaN"))) == null
    assert "ca: " in error(client.post(INFER, content=content.replace("null", "Infinity")))
    error(client.post(INFER, content=content.replace("null", "nil")))


@pytest.mark.parametrize("count", [3, 30_000])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_both_sides_may_compress(
    client: TestClient, expected: list[float], cleveland: Dataset, coding: str, count: int
) -> None:
    """The announced length of the JSON is uncompressed. A list in Accept-Encoding is ignored."""
    pack = gzip.compress if coding == "gzip" else zlib.compress
    content, headers = binary(
        ("patient", np.resize(cleveland.rows, (count, 13))), parameters={"binary_data_output": True}
    )
    headers |= {"Content-Encoding": coding, "Accept-Encoding": coding}
    response = client.post(INFER, content=pack(content), headers=headers)
    assert response.headers["content-encoding"] == coding
    assert probabilities(response) == pytest.approx(np.resize(expected, count).tolist(), abs=1e-6)
    headers["Accept-Encoding"] = "gzip, deflate"
    assert "content-encoding" not in client.post(INFER, content=pack(content), headers=headers).headers
    assert "cut off" in error(client.post(INFER, content=pack(content)[:-9], headers=headers))
    error(client.post(INFER, content=content, headers=headers))


def test_a_large_binary_batch_is_scored_in_a_thread_and_counted(predictor: Predictor, cleveland: Dataset) -> None:
    """More than a JSON body may hold, with and without Content-Length."""
    rows = np.resize(cleveland.rows, (100_000, 13))
    content, headers = binary(("patient", rows), parameters={"binary_data_output": True})

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(content), 100_000):
            yield content[start : start + 100_000]

    app = create_app(Settings(), predictor)
    with TestClient(app) as client:
        for body in (content, chunks()):
            found = probabilities(client.post(INFER, content=body, headers=headers))
            assert found == pytest.approx(rounded(predictor(rows)).tolist(), abs=1e-6)
        assert app.state.heart.metrics.snapshot().total(ROWS, "batch") == 200_000
        assert probabilities(client.post(INFER, json={"inputs": [tensor(cleveland.rows[:1])]}))
        assert app.state.heart.metrics.snapshot().total(ROWS, "single") == 1


@pytest.mark.parametrize("count", [1, 40, 5000, 100_000])
def test_invalid_values_are_named_by_row_and_field_and_counted(
    client: TestClient, cleveland: Dataset, count: int
) -> None:
    """The first ten, in the order of the rows, with PatientRecord's texts."""
    rows = np.resize(cleveland.rows, (count, 13)).copy()
    rows[::3, FIELDS.index("chol")] = 12345.678
    rows[count - 1, [0, 1, 12]] = [np.nan, np.nan, 5]
    content, headers = binary(("patient", rows))
    found = error(client.post(INFER, content=content, headers=headers))
    words = {field.name: field.expected for field in measurements()}
    assert found.startswith(f"{len(rows[::3]) + 3} invalid values")
    assert f"row 0, chol: {words['chol']}" in found or count == 1
    if count == 1:
        for name in ("age", "sex", "chol", "thal"):
            assert f"row 0, {name}: {words[name]}" in found
    assert found.count("; row ") <= 9
    assert "12345" not in found


def test_json_values_are_checked_before_rounding_to_float32(client: TestClient) -> None:
    """120.000001 years are rejected, as by /predict, although float32 rounds them to 120."""
    one = tensor(np.array([[*EXAMPLE.values()]]))
    for age, status in ((120, 200), (120.000001, 400), (17.999999999, 400), (18, 200)):
        body = {"inputs": [one | {"data": [age, *one["data"][1:]]}]}
        assert client.post(INFER, json=body).status_code == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/", 404),
        ("GET", "/v2/nothing", 404),
        ("POST", "/v2", 405),
        ("GET", INFER, 405),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/other/ready", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("GET", MODEL + "/versions/999", 404),
        ("GET", MODEL + "/versions/999/ready", 404),
        ("POST", MODEL + "/versions/999/infer", 404),
        ("POST", MODEL + "/versions/%ff/infer", 404),
        ("GET", MODEL + "/stats", 404),
        ("POST", "/v2/repository/models/heart_disease/load", 404),
    ],
)
def test_an_unknown_path_gets_an_error_in_the_protocols_shape(
    client: TestClient, method: str, path: str, status: int, predictor: Predictor
) -> None:
    """It names what is served, and not what was requested."""
    said = error(client.request(method, path), status)
    assert "other" not in said
    assert "999" not in said
    if "999" in path:
        assert f"version {predictor.version}" in said


def test_without_a_model_everything_that_needs_one_is_503() -> None:
    """The process is live, and 503 has Retry-After."""
    waiting = TestClient(create_app(Settings()))
    assert waiting.get("/v2/health/live").status_code == 200
    assert waiting.get("/v2").status_code == 200
    for method, path in [
        ("GET", "/v2/health/ready"),
        ("GET", MODEL),
        ("GET", MODEL + "/ready"),
        ("POST", INFER),
        ("POST", "/v2/repository/index"),
    ]:
        response = waiting.request(method, path)
        assert "No model" in error(response, 503)
        assert response.headers["retry-after"] == "1"


def test_an_unexpected_exception_is_a_500_in_the_protocols_shape(
    monkeypatch: pytest.MonkeyPatch, client: TestClient
) -> None:
    """In the event loop and in a thread."""

    def bug(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Predictor, "__call__", bug)
    for count in (2, 100_000):
        content, headers = binary(("patient", np.resize(np.array([*EXAMPLE.values()], np.float32), (count, 13))))
        assert "secret" not in error(client.post(INFER, content=content, headers=headers), 500)


def test_every_limit_is_413_and_named(predictor: Predictor, cleveland: Dataset) -> None:
    """Limits of JSON, rows, tensors, and of a decompressed body."""
    limits = Settings(max_body=60_000, max_rows=20, max_part=80_000, max_table_rows=1600)
    content, headers = binary(("patient", np.resize(cleveland.rows, (1500, 13))))
    over, more = binary(("patient", np.resize(cleveland.rows, (1601, 13))))
    wide, widest = binary(("patient", np.resize(cleveland.rows, (1550, 13))))
    large, largest = binary(("patient", np.resize(cleveland.rows, (3000, 13))))
    with TestClient(create_app(limits, predictor)) as client:
        assert client.post(INFER, content=content, headers=headers).status_code == 200
        assert "1600 rows" in error(client.post(INFER, content=over, headers=more), 413)
        assert "80000 bytes" in error(client.post(INFER, content=wide, headers=widest), 413)
        assert "140000 bytes" in error(client.post(INFER, content=large, headers=largest), 413)
        assert "140000 bytes" in error(client.post(INFER, content=iter([large]), headers=largest), 413)
        for packed in (large, b" " * 70_000):
            sent = {"Content-Encoding": "gzip"} | (largest if packed is large else {})
            error(client.post(INFER, content=gzip.compress(packed), headers=sent), 413)
        assert client.post(INFER, json={"inputs": [tensor(cleveland.rows[:20])]}).status_code == 200
        assert "20 rows" in error(client.post(INFER, json={"inputs": [tensor(cleveland.rows[:21])]}), 413)
        error(client.post(INFER, content=b"[" + b"0," * 5000 + b"0]"), 413)
        error(client.post(INFER, content=b" " * 60_001), 413)
        error(client.post(INFER, content=b"{}", headers={HEADER: "60001"}), 413)


def test_another_encoding_is_415(client: TestClient) -> None:
    """The error names the supported encodings."""
    assert "gzip, deflate" in error(client.post(INFER, content=b"", headers={"Content-Encoding": "br"}), 415)
