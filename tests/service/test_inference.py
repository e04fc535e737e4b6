"""The Open Inference Protocol v2: right answers to what it allows, and its own error, 400, to everything else."""

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patient.encoding import Floats
from patient.record import EXAMPLE, FIELDS, measurements
from service.answers import rounded
from service.app import create_app
from service.inference.answer import HEADER
from service.predictor import Predictor
from service.settings import Settings
from trainer.dataset import Dataset

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


@pytest.fixture(scope="module")
def expected(predictor: Predictor, cleveland: Dataset) -> list[float]:
    """The model's own answers to the 303 records."""
    found: list[float] = rounded(predictor(cleveland.rows)).tolist()
    return found


def test_the_server_and_its_model_are_described(client: TestClient, predictor: Predictor) -> None:
    """Health, server, model, readiness and index, with and without the version in the path."""
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2").json() == {"name": "heart", "version": "1", "extensions": ["binary_tensor_data"]}
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
def test_json_and_binary_flat_and_nested_whole_and_by_field_give_the_models_answers(
    client: TestClient, predictor: Predictor, cleveland: Dataset, expected: list[float], count: int, out: dict[str, Any]
) -> None:
    """Every way to say the same; gaps are null in JSON and NaN in bytes."""
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


def test_what_an_output_says_of_itself_goes_before_what_the_request_says(client: TestClient) -> None:
    """And an id comes back only if there was one; what means nothing here is passed over."""
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


def test_nan_is_taken_for_null_as_tritonclient_writes_it(client: TestClient) -> None:
    """It is no JSON, but its JSON mode has no other word for a gap; infinity stays refused."""
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
    """As HTTP says it; the length of the JSON is that of the plain one. A list of codings is no wish."""
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


def test_a_large_binary_batch_goes_through_a_thread_and_is_counted(predictor: Predictor, cleveland: Dataset) -> None:
    """More than a JSON body may hold; announced or not."""
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
        assert app.state.heart.counts.total("rows/batch") == 200_000
        assert probabilities(client.post(INFER, json={"inputs": [tensor(cleveland.rows[:1])]}))
        assert app.state.heart.counts.total("rows/single") == 1


@pytest.mark.parametrize("count", [1, 40, 5000, 100_000])
def test_refused_values_are_named_by_row_and_field_and_counted(
    client: TestClient, cleveland: Dataset, count: int
) -> None:
    """In PatientRecord's own words, the first ten of them, in the order of the rows."""
    rows = np.resize(cleveland.rows, (count, 13)).copy()
    rows[::3, FIELDS.index("chol")] = 12345.678
    rows[count - 1, [0, 1, 12]] = [np.nan, np.nan, 5]
    content, headers = binary(("patient", rows))
    found = error(client.post(INFER, content=content, headers=headers))
    words = {field.name: field.expected for field in measurements()}
    assert found.startswith(f"{len(rows[::3]) + 3} refused")
    assert f"row 0, chol: {words['chol']}" in found or count == 1
    if count == 1:
        for name in ("age", "sex", "chol", "thal"):
            assert f"row 0, {name}: {words[name]}" in found
    assert found.count("; row ") <= 9
    assert "12345" not in found


def test_the_values_are_judged_as_they_were_written(client: TestClient) -> None:
    """120.000001 years are refused in JSON, as /predict refuses them, although float32 would make 120 of them."""
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
        ("GET", MODEL + "/config", 404),
        ("POST", "/v2/repository/models/heart_disease/load", 404),
    ],
)
def test_a_path_that_is_not_there_is_told_in_the_protocols_own_shape(
    client: TestClient, method: str, path: str, status: int, predictor: Predictor
) -> None:
    """Naming what there is, and not what was asked for."""
    said = error(client.request(method, path), status)
    assert "other" not in said
    assert "999" not in said
    if "999" in path:
        assert f"version {predictor.version}" in said


def test_without_a_model_everything_that_needs_one_is_503() -> None:
    """The process lives, and says when to come back."""
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


def test_a_bug_of_ours_is_a_500_of_the_same_shape(monkeypatch: pytest.MonkeyPatch, client: TestClient) -> None:
    """In the event loop as in a thread."""

    def bug(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Predictor, "__call__", bug)
    for count in (2, 100_000):
        content, headers = binary(("patient", np.resize(np.array([*EXAMPLE.values()], np.float32), (count, 13))))
        assert "secret" not in error(client.post(INFER, content=content, headers=headers), 500)


def test_every_limit_is_413_and_named(predictor: Predictor, cleveland: Dataset) -> None:
    """Of JSON, of rows, of tensors, and of what a compressed body unpacks to."""
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
        assert "1600 rows" in error(client.post(INFER, content=iter([large]), headers=largest), 413)
        for packed in (large, b" " * 70_000):
            sent = {"Content-Encoding": "gzip"} | (largest if packed is large else {})
            error(client.post(INFER, content=gzip.compress(packed), headers=sent), 413)
        assert client.post(INFER, json={"inputs": [tensor(cleveland.rows[:20])]}).status_code == 200
        assert "20 rows" in error(client.post(INFER, json={"inputs": [tensor(cleveland.rows[:21])]}), 413)
        error(client.post(INFER, content=b"[" + b"0," * 5000 + b"0]"), 413)
        error(client.post(INFER, content=b" " * 60_001), 413)
        error(client.post(INFER, content=b"{}", headers={HEADER: "60001"}), 413)


def test_another_encoding_is_415(client: TestClient) -> None:
    """And is told which there are."""
    assert "gzip or deflate" in error(client.post(INFER, content=b"", headers={"Content-Encoding": "br"}), 415)


ROW = np.array([[*EXAMPLE.values()]], np.float32)
ONE = tensor(ROW)
BY_FIELD = [tensor(ROW[:, i], name) for i, name in enumerate(FIELDS)]
BYTES = {"name": "patient", "shape": [1, 13], "datatype": "FP32", "parameters": {"binary_data_size": 52}}


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "patient alone"),
        ([ONE, ONE], "twice"),
        ([ONE | {"name": "Jane Doe"}], "patient alone"),
        ([ONE, ONE | {"name": "age"}], "patient alone"),
        ([ONE | {"name": name} for name in FIELDS[1:]], "patient alone"),
        ([*BY_FIELD[:12], tensor(ROW[0, :2], "thal")], "same"),
        ([tensor(ROW, name) for name in FIELDS], "[N] or [N,1]"),
        ([ONE | {"shape": [13]}], "[N,13]"),
        ([ONE | {"shape": []}], "[N,13]"),
        ([ONE | {"shape": [1, 13, 1]}], "[N,13]"),
        ([ONE | {"shape": [0, 13], "data": []}], "empty"),
        ([ONE | {"shape": [-1, 13]}], "empty"),
        ([ONE | {"shape": [2**64, 13]}], "rows may come"),
        ([BYTES | {"shape": [2**62, 13], "parameters": {"binary_data_size": 52}}], "rows may come"),
        ([BYTES | {"shape": [2, 13], "parameters": {"binary_data_size": 52}}], "binary_data_size of 104"),
        ([BYTES | {"shape": [10**400, 13]}], "rows may come"),
        ([ONE | {"shape": [1.5, 13]}], "int"),
        ([ONE | {"shape": "1,13"}], "array"),
        ([ONE | {"datatype": "BYTES"}], "FP32"),
        ([ONE | {"datatype": "FP64"}], "FP32"),
        ([ONE | {"datatype": 32}], "str"),
        ([ONE | {"data": ONE["data"][:12]}], "fill its shape"),
        ([ONE | {"data": [[ONE["data"]]]}], "float"),
        ([ONE | {"data": [ONE["data"][:12]]}], "fill its shape"),
        ([ONE | {"data": [ONE["data"], 3]}], "fill its shape"),
        ([ONE | {"data": [3, ONE["data"]]}], "fill its shape"),
        ([ONE | {"shape": [2, 13], "data": [ONE["data"], ONE["data"][:12]]}], "fill its shape"),
        ([ONE | {"data": ["63", *ONE["data"][1:]]}], "float"),
        ([ONE | {"data": [True, *ONE["data"][1:]]}], "float"),
        ([ONE | {"data": "AAAA"}], "array"),
        ([ONE | {"data": None}], "either data or"),
        ([ONE | {"parameters": {"binary_data_size": 52}}], "either data or"),
        ([BYTES], "ends before"),
        ([BYTES | {"parameters": {"binary_data_size": -52}}], "binary_data_size of 52"),
        ([BYTES | {"parameters": {"binary_data_size": 2**70}}], "binary_data_size of 52"),
        ([BYTES | {"parameters": {"binary_data_size": "52"}}], "int"),
        ([BYTES | {"parameters": {"shared_memory_region": "r"}}], "Shared memory"),
        ([{"name": "patient"}], "shape"),
        (["patient"], "object"),
        ({}, "array"),
        (None, "array"),
    ],
)
def test_a_wrong_input_is_refused_with_what_it_should_be(client: TestClient, inputs: object, words: str) -> None:
    """Whatever a client gets wrong, it reads what is right, and nothing of its own."""
    said = client.post(INFER, json={"inputs": inputs})
    assert words in error(said, 413 if words == "rows may come" else 400)
    assert "Jane" not in said.text


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"outputs": [{"name": "Jane Doe"}]}, "only output"),
        ({"outputs": [{"name": "probability"}] * 2}, "only output"),
        ({"outputs": [{"name": "probability", "parameters": {"binary_data": 1}}]}, "bool"),
        ({"outputs": [{"name": "probability", "parameters": {"classification": 2}}]}, "classified"),
        ({"outputs": "probability"}, "array"),
        ({"parameters": {"binary_data_output": "yes"}}, "bool"),
        ({"parameters": []}, "object"),
        ({"id": 7}, "str"),
    ],
)
def test_a_wrong_request_is_refused(client: TestClient, request_: dict[str, Any], words: str) -> None:
    """What is asked for is checked like what is sent."""
    said = client.post(INFER, json={"inputs": [ONE]} | request_)
    assert words in error(said)
    assert "Jane" not in said.text


@pytest.mark.parametrize("value", ["-1", "x", "1e3", "", " ", "+5", "0x10", "9" * 30, b"\xb2", b"\xff", "1000000"])
def test_a_length_that_is_none_is_refused(client: TestClient, value: str | bytes) -> None:
    """Superscript two is a digit to Python, and no number."""
    headers: Any = {HEADER.encode(): value if isinstance(value, bytes) else value.encode()}
    content = json.dumps({"inputs": [ONE]})
    assert HEADER in error(client.post(INFER, content=content, headers=headers))


def test_a_body_that_is_longer_or_shorter_than_it_says_is_refused(client: TestClient) -> None:
    """A byte too many might be a tensor of another patient."""
    content, headers = binary(("patient", ROW))
    assert client.post(INFER, content=content, headers=headers).status_code == 200
    assert "ends before" in error(client.post(INFER, content=content[:-1], headers=headers))
    assert "longer than" in error(client.post(INFER, content=content + b"\0", headers=headers))
    error(client.post(INFER, content=content))
    for length in (0, 1, int(headers[HEADER]) - 1, int(headers[HEADER]) + 1, len(content)):
        error(client.post(INFER, content=content, headers={HEADER: str(length)}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"{",
        b"[" * 100_000,
        b'{"inputs":' + b"[" * 100_000,
        b'{"inputs":[{"name":"\\ud800"}]}',
        b'{"inputs":[{"name":"\xff"}]}',
        json.dumps({"inputs": [BYTES | {"name": "x"}] * 30_000}).encode(),
        json.dumps({"inputs": [{"name": str(i), "shape": [1], "datatype": "FP32"} for i in range(1000)]}).encode(),
        json.dumps({"inputs": [ONE | {"data": [9**999] * 13}]}).encode(),
        json.dumps({"inputs": [ONE | {"data": [float("nan")] * 12 + [9**999]}]}).encode(),
        json.dumps({"inputs": [ONE | {"shape": [1] * 4000}]}).encode(),
        json.dumps({"inputs": [ONE | {"shape": [7, 13]}]}).encode().replace(b"[7", b"[7" + b"0" * 5000),
        json.dumps({"inputs": [BYTES | {"shape": [7, 13]}]}).encode().replace(b"[7", b"[7" + b"0" * 4290),
    ],
)
def test_a_body_that_is_no_request_is_refused(client: TestClient, content: bytes) -> None:
    """However deep, long or broken it is."""
    response = client.post(INFER, content=content)
    assert len(error(response, response.status_code if response.status_code == 413 else 400)) < 2000


def mutated(draw: st.DrawFn, value: Any) -> Any:
    """JSON like this value, with something in it exchanged, dropped or doubled."""
    odd: st.SearchStrategy[Any] = st.sampled_from(
        [None, True, 0, -1, 13, 52, 2**63, 1.5, "", "FP32", "patient", "INT64", [], [1, 13], {}, [[]]]
    )
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(value)))
        if not draw(st.integers(0, 5)):
            return {name: item for name, item in value.items() if name != key}
        return value | {key: mutated(draw, value[key])}
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        at = draw(st.integers(0, len(value) - 1))
        if not draw(st.integers(0, 5)):
            return [*value, value[at]]
        return [*value[:at], mutated(draw, value[at]), *value[at + 1 :]]
    return draw(odd)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, dict[str, str]]:
    """Requests near right ones: JSON exchanged in places, tails and lengths that lie."""
    outputs = [{"name": "probability", "parameters": {"binary_data": True}}]
    base = draw(st.sampled_from([[ONE], [BYTES], BY_FIELD]))
    request: Any = {"inputs": base, "outputs": outputs, "id": "7", "parameters": {"binary_data_output": False}}
    for _ in range(draw(st.integers(0, 2))):
        request = mutated(draw, request)
    head = json.dumps(request).encode()
    tail = ROW.tobytes() if base == [BYTES] else b""
    if not draw(st.integers(0, 3)):
        tail = draw(st.binary(max_size=60))
    headers = {HEADER: str(len(head) + draw(st.sampled_from([0, 0, 0, -1, 1, 52])))} if tail else {}
    if not draw(st.integers(0, 7)):
        headers |= {"Content-Encoding": draw(st.sampled_from(["gzip", "deflate"]))}
    return head + tail, headers


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests())
def test_whatever_comes_is_answered_rightly_or_refused(
    client: TestClient, request_: tuple[bytes, dict[str, str]]
) -> None:
    """Never a fault of ours, and never an answer to something else."""
    content, headers = request_
    response = client.post(INFER, content=content, headers=headers)
    if response.status_code == 200:
        for found in probabilities(response):
            assert 0 <= found <= 1
    else:
        error(response, 413 if response.status_code == 413 else 400)


def test_no_value_that_was_sent_is_in_an_error_or_a_log(client: TestClient, caplog: Any) -> None:
    """Whatever is wrong with a request, its measurements stay with whoever sent them."""
    caplog.set_level("DEBUG")
    marks = ["98765.4321", '"Jane Doe"', '["Jane Doe"]', '{"Jane Doe": 98765.4321}', "98765432100000000000000"]
    good = json.dumps({"inputs": [ONE], "outputs": [{"name": "probability"}]})
    for mark in marks:
        for part in ("63.0", '"patient"', '"FP32"', "[1, 13]", '"probability"'):
            for content in (good.replace(part, mark, 1), good.replace(part, mark, 1)[:-1]):
                said = client.post(INFER, content=content)
                assert said.status_code in (400, 413)
                for secret in ("98765", "Jane"):
                    assert secret not in said.text
                    assert secret not in caplog.text
