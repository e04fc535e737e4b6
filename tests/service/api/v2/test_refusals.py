"""The Open Inference Protocol v2: every invalid request gets 400 or 413 in the protocol's error shape."""

import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patient.record import EXAMPLE, FIELDS
from service.api.v2.messages import JSON_LENGTH_HEADER as HEADER
from tests.service.api.v2.v2 import INFER, binary, error, probabilities, tensor

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
        ([ONE | {"shape": [2**64, 13]}], "A request may hold up to"),
        ([BYTES | {"shape": [2**62, 13], "parameters": {"binary_data_size": 52}}], "A request may hold up to"),
        ([BYTES | {"shape": [2, 13], "parameters": {"binary_data_size": 52}}], "binary_data_size of 104"),
        ([BYTES | {"shape": [10**400, 13]}], "A request may hold up to"),
        ([ONE | {"shape": [1.5, 13]}], "int"),
        ([ONE | {"shape": "1,13"}], "array"),
        ([ONE | {"datatype": "BYTES"}], "FP32"),
        ([ONE | {"datatype": "FP16"}], "FP32"),
        ([ONE | {"datatype": 32}], "str"),
        ([ONE | {"data": ONE["data"][:12]}], "fill its shape"),
        ([ONE | {"data": [[ONE["data"]]]}], "float"),
        ([ONE | {"data": [ONE["data"][:12]]}], "fill its shape"),
        ([ONE | {"data": [ONE["data"], 3]}], "fill its shape"),
        ([ONE | {"data": [3, ONE["data"]]}], "fill its shape"),
        ([ONE | {"shape": [2, 13], "data": [ONE["data"], ONE["data"][:12]]}], "fill its shape"),
        ([ONE | {"data": ["63", *ONE["data"][1:]]}], "float"),
        ([ONE | {"data": [True, *ONE["data"][1:]]}], "Booleans"),
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
def test_an_invalid_input_is_rejected_with_what_was_expected(client: TestClient, inputs: object, words: str) -> None:
    """The error names what is valid, and repeats nothing that was sent."""
    said = client.post(INFER, json={"inputs": inputs})
    assert words in error(said, 413 if words == "A request may hold up to" else 400)
    assert "Jane" not in said.text


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"outputs": [{"name": "Jane Doe"}]}, "only output"),
        ({"outputs": [{"name": "probability"}] * 2}, "only output"),
        ({"outputs": [{"name": "probability", "parameters": {"binary_data": 1}}]}, "bool"),
        ({"outputs": [{"name": "probability", "parameters": {"classification": 2}}]}, "Classification"),
        ({"outputs": "probability"}, "array"),
        ({"parameters": {"binary_data_output": "yes"}}, "bool"),
        ({"parameters": []}, "object"),
        ({"id": 7}, "str"),
    ],
)
def test_an_invalid_request_is_rejected(client: TestClient, request_: dict[str, Any], words: str) -> None:
    """Outputs, parameters and the id are checked like inputs."""
    said = client.post(INFER, json={"inputs": [ONE]} | request_)
    assert words in error(said)
    assert "Jane" not in said.text


@pytest.mark.parametrize("value", ["-1", "x", "1e3", "", "+5", "0x10", "9" * 30, b"\xb2", b"\xff", "1000000"])
def test_an_invalid_json_length_is_rejected(client: TestClient, value: str | bytes) -> None:
    """To Python, superscript two is a digit but not a number."""
    headers: Any = {HEADER.encode(): value if isinstance(value, bytes) else value.encode()}
    content = json.dumps({"inputs": [ONE]})
    assert HEADER in error(client.post(INFER, content=content, headers=headers))


def test_a_body_that_is_longer_or_shorter_than_announced_is_rejected(client: TestClient) -> None:
    """An extra byte might belong to another patient's tensor."""
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
def test_a_body_that_is_not_a_request_is_rejected(client: TestClient, content: bytes) -> None:
    """However deep, long or damaged it is."""
    response = client.post(INFER, content=content)
    assert len(error(response, response.status_code if response.status_code == 413 else 400)) < 2000


def mutated(draw: st.DrawFn, value: Any) -> Any:
    """This JSON value with something in it replaced, removed or duplicated."""
    invalid_probabilities: st.SearchStrategy[Any] = st.sampled_from(
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
    return draw(invalid_probabilities)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, dict[str, str]]:
    """Almost valid requests: mutated JSON, wrong tails and lengths."""
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
def test_every_request_gets_probabilities_or_a_client_error(
    client: TestClient, request_: tuple[bytes, dict[str, str]]
) -> None:
    """Never 500."""
    content, headers = request_
    response = client.post(INFER, content=content, headers=headers)
    if response.status_code == 200:
        for found in probabilities(response):
            assert 0 <= found <= 1
    else:
        error(response, 413 if response.status_code == 413 else 400)


def test_no_value_that_was_sent_is_in_an_error_or_a_log(client: TestClient, caplog: Any) -> None:
    """Whatever is wrong with a request: its measurements belong to a patient."""
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
