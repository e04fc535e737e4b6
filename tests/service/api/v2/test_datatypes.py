"""Inputs of other datatypes than FP32 give the same results where their values are the same."""

import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from patient.record import EXAMPLE, FIELDS
from service.api.v2.messages import DATATYPES, INTEGERS
from service.api.v2.messages import JSON_LENGTH_HEADER as HEADER
from tests.service.api.v2.v2 import INFER, error, probabilities

RECORDS = [EXAMPLE | {"oldpeak": 2, "chol": 100, "trestbps": 120, "thalach": 90}, EXAMPLE | {"oldpeak": 1, "sex": 0}]
WHOLE = [[*record.values()] for record in RECORDS]
integers = pytest.mark.parametrize("datatype", INTEGERS)
numbers = pytest.mark.parametrize("datatype", ["FP32", "FP64", *INTEGERS])


def patient(rows: list[list[Any]], datatype: str, **other: Any) -> dict[str, Any]:
    return {"name": "patient", "shape": [len(rows), 13], "datatype": datatype, "data": rows} | other


def post(client: TestClient, *inputs: dict[str, Any]) -> Any:
    return client.post(INFER, json={"inputs": inputs})


def post_binary(client: TestClient, inputs: list[dict[str, Any]], values: list[Any]) -> Any:
    """The same with values as bytes."""
    parts = [
        np.array(value, DATATYPES[tensor["datatype"]]).tobytes() for tensor, value in zip(inputs, values, strict=True)
    ]
    for tensor, part in zip(inputs, parts, strict=True):
        del tensor["data"]
        tensor["parameters"] = {"binary_data_size": len(part)}
    head = json.dumps({"inputs": inputs}).encode()
    return client.post(INFER, content=head + b"".join(parts), headers={HEADER: str(len(head))})


def expected(client: TestClient, records: list[dict[str, Any]]) -> list[float]:
    """What /predict/batch says."""
    answers = client.post("/predict/batch", json=records).json()["predictions"]
    return [answer["probability"] for answer in answers]


@numbers
@pytest.mark.parametrize("count", [1, 2])
def test_numbers_of_any_type_are_scored(client: TestClient, datatype: str, count: int) -> None:
    """Both in JSON and binary. 145 and 233 are no INT8, so these records have smaller values."""
    rows, records = WHOLE[:1] * count, RECORDS[:1] * count
    wanted = pytest.approx(expected(client, records), abs=2e-7)
    assert probabilities(post(client, patient(rows, datatype))) == wanted
    assert probabilities(post_binary(client, [patient(rows, datatype)], [rows])) == wanted


@pytest.mark.parametrize("binary", [False, True])
def test_each_field_may_have_its_own_type(client: TestClient, binary: bool) -> None:
    """BOOL for what is yes or no, FP64 for what has decimals, integers for the rest."""
    own = (
        dict.fromkeys(FIELDS, "INT32")
        | dict.fromkeys(("sex", "fbs", "exang"), "BOOL")
        | {"oldpeak": "FP64", "ca": "UINT64"}
    )
    columns = {name: [record[name] for record in [EXAMPLE, *RECORDS]] for name in FIELDS}
    columns |= {name: [bool(value) for value in columns[name]] for name, datatype in own.items() if datatype == "BOOL"}
    inputs = [{"name": name, "shape": [3], "datatype": own[name], "data": columns[name]} for name in FIELDS]
    response = post_binary(client, inputs, [*columns.values()]) if binary else post(client, *inputs)
    assert probabilities(response) == pytest.approx(expected(client, [EXAMPLE, *RECORDS]), abs=2e-7)


def test_null_is_not_taken_in_every_type(client: TestClient) -> None:
    """In JSON; a binary integer cannot be missing."""
    records = [RECORDS[0] | {"thal": None, "exang": None}]
    inputs = [{"name": name, "shape": [1], "datatype": "INT64", "data": [value]} for name, value in records[0].items()]
    inputs[FIELDS.index("exang")]["datatype"] = "BOOL"
    assert probabilities(post(client, *inputs)) == pytest.approx(expected(client, records), abs=2e-7)


def test_fp64_is_rounded_once_it_is_checked(client: TestClient) -> None:
    """As the decimal numbers of /predict are: 2.3 is no float32, and 120.0000001 is valid only when rounded."""
    row = [*(EXAMPLE | {"age": 120.0000001}).values()]
    assert probabilities(post_binary(client, [patient([], "FP64", shape=[1, 13])], [[*EXAMPLE.values()]])) == (
        pytest.approx(expected(client, [EXAMPLE]), abs=2e-7)
    )
    assert "age" in error(post_binary(client, [patient([], "FP64", shape=[1, 13])], [row]))


@integers
def test_what_the_type_cannot_hold_is_refused(client: TestClient, datatype: str) -> None:
    """In JSON, where anything can be written. Binary values have no more than they have bits."""
    limits = np.iinfo(DATATYPES[datatype])
    for value in (2.5, int(limits.max) + 1, int(limits.min) - 1, 10**400):
        row = [*(RECORDS[0] | {"oldpeak": value}).values()]
        response = post(client, patient([row], datatype))
        detail = error(response)
        assert datatype in detail or "oldpeak" in detail or value == 10**400  # which no JSON number may be
        assert str(value) not in response.text
    for value in (limits.max, limits.min):
        row = [*(RECORDS[0] | {"age": int(value)}).values()]
        if not 18 <= value <= 120:
            assert "age" in error(post_binary(client, [patient([], datatype, shape=[1, 13])], [row]))


@pytest.mark.parametrize(
    ("datatype", "value", "words"),
    [("INT64", True, "BOOL"), ("FP32", False, "BOOL"), ("BOOL", 1, "true, false or null"), ("BOOL", 0.5, "true, false"),
     ("BYTES", "1", "str"), ("BYTES", 1, "must hold numbers"), ("FP16", 1, "must hold numbers"), ("INT64", "1", "str"),
     ("BOOL", "true", "str")],
)  # fmt: skip
def test_other_values_than_the_types_are_refused(client: TestClient, datatype: str, value: Any, words: str) -> None:
    """Booleans are no numbers, and strings are none."""
    inputs = [{"name": name, "shape": [1], "datatype": "FP32", "data": [v]} for name, v in EXAMPLE.items()]
    inputs[1] |= {"datatype": datatype, "data": [value]}
    assert words in error(post(client, *inputs))


def test_a_binary_boolean_is_0_or_1(client: TestClient) -> None:
    inputs = [{"name": name, "shape": [1], "datatype": "FP32", "data": [v]} for name, v in EXAMPLE.items()]
    inputs[1]["datatype"] = "BOOL"
    values = [[value] for value in EXAMPLE.values()]
    values[1] = [2]
    assert "sex" in error(post_binary(client, inputs, values))


def test_the_models_configuration_is_tritons(client: TestClient) -> None:
    """With the names, types and shapes of its metadata, which also have the dimension of rows."""
    about = client.get("/v2/models/heart_disease").json()
    config = client.get("/v2/models/heart_disease/config").json()
    assert config == client.get(f"/v2/models/heart_disease/versions/{about['versions'][0]}/config").json()
    assert (config["name"], config["platform"], config["max_batch_size"]) == (about["name"], about["platform"], 10_000)
    for key in ("input", "output"):
        described = [(t["name"], t["datatype"], t["shape"]) for t in about[key + "s"]]
        assert described == [(t["name"], t["data_type"].removeprefix("TYPE_"), [-1, *t["dims"]]) for t in config[key]]
    assert "model_configuration" in client.get("/v2").json()["extensions"]
    assert client.get("/v2/models/other/config").status_code == 404
    assert client.get("/v2/models/heart_disease/versions/999/config").status_code == 404


@pytest.mark.parametrize("part", ["{}", "[]", '{"a":1}'])
def test_json_with_more_values_than_rows_can_have_is_refused(client: TestClient, part: str) -> None:
    """Before it is parsed, wherever they are."""
    many = ",".join([part] * 70_000)
    content = '{"inputs":[],"x":[' + many + "]}"
    assert "up to 130000 values" in error(client.post(INFER, content=content), 413)


def test_a_parameter_is_no_array(client: TestClient) -> None:
    """It could be nested so deeply that parsing it holds the event loop."""
    outputs = [{"name": "probability", "parameters": {"classification": [[]]}}]
    assert "array" in error(client.post(INFER, json={"inputs": [], "outputs": outputs}))
