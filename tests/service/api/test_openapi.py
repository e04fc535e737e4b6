"""The OpenAPI document is complete enough to generate a client from."""

import json
import re

from fastapi.testclient import TestClient

from patient.record import EXAMPLE, FIELDS
from service.api.table_request import PARAMETERS
from service.tables.formats import FORMATS


def test_every_path_declares_its_responses_and_errors(client: TestClient) -> None:
    """With their schemas."""
    paths = client.get("/openapi.json").json()["paths"]
    statuses = {path: sorted(next(iter(operations.values()))["responses"]) for path, operations in paths.items()}
    taking = ["200", "400", "408", "413", "415", "422", "500", "503"]
    assert statuses == {
        "/predict": taking,
        "/predict/batch": sorted([*taking, "406", "507"]),
        "/explain": sorted([*taking, "409"]),
        "/health/live": ["200"],
        "/health/ready": ["200", "503"],
        "/model": ["200", "503"],
        "/model/card": ["200", "404", "503"],
        "/metrics": ["200", "503"],
        "/v2": ["200"],
        "/v2/health/live": ["200"],
        "/v2/health/ready": ["200", "503"],
        "/v2/repository/index": ["200", "503"],
        "/v2/models/heart_disease": ["200", "404", "503"],
        "/v2/models/heart_disease/config": ["200", "404", "503"],
        "/v2/models/heart_disease/ready": ["200", "404", "503"],
        "/v2/models/heart_disease/infer": ["200", "400", "404", "408", "413", "415", "500", "503"],
    }
    for path, operations in paths.items():
        good = [{"/metrics": "text/plain", "/model/card": "text/markdown"}.get(path, "application/json")]
        if path == "/predict/batch":
            good = [format_.media_type for format_ in FORMATS]
        if path.endswith("/infer"):
            good = ["application/json", "application/octet-stream"]
        bad = ["application/json" if path.startswith("/v2") else "application/problem+json"]
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]
            for status, response in operation["responses"].items():
                assert list(response["content"]) == (good if status == "200" else bad)


def test_a_table_is_described_with_its_formats_and_its_options(client: TestClient) -> None:
    """Media types and query parameters."""
    batch = client.get("/openapi.json").json()["paths"]["/predict/batch"]["post"]
    assert {*batch["requestBody"]["content"]} == {*(format_.media_type for format_ in FORMATS), "multipart/form-data"}
    assert {parameter["name"] for parameter in batch["parameters"]} == {*PARAMETERS}


def test_the_record_is_a_component_with_units_labels_and_the_worked_example(client: TestClient) -> None:
    """A form can be generated from it."""
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    record = schemas["PatientRecord"]
    assert list(record["properties"]) == list(FIELDS)
    assert record["properties"]["chol"]["unit"] == "mg/dl"
    assert record["properties"]["thal"]["labels"] == ["normal", "fixed defect", "reversible defect"]
    assert record["examples"] == [EXAMPLE]
    assert list(record["examples"][0]) == list(FIELDS)


def test_every_reference_resolves(client: TestClient) -> None:
    """Generators reject a schema with a broken reference."""
    text = client.get("/openapi.json").text
    schemas = json.loads(text)["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/(\w+)"', text)) <= set(schemas)


def test_the_documented_examples_are_valid_requests(client: TestClient) -> None:
    """ "Execute" in /docs gives a prediction."""
    for path in ("/predict", "/predict/batch", "/explain", "/v2/models/heart_disease/infer"):
        body = client.get("/openapi.json").json()["paths"][path]["post"]["requestBody"]
        assert client.post(path, json=body["content"]["application/json"]["example"]).status_code == 200


def test_the_documentation_loads_nothing_from_other_hosts(client: TestClient) -> None:
    """A page that handles patient data runs only this service's code."""
    page = client.get("/docs").text
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources
    for source in sources:
        assert source.startswith("/")
        assert client.get(source).status_code == 200
