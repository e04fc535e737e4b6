"""No request passes without a valid key, however it is written."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from patient.record import EXAMPLE
from service.api.health import PROBES
from service.app import create_app, with_middleware
from service.http.api_keys import new_key
from service.model.predictor import Predictor
from service.settings import Settings

NEEDED = [("POST", "/predict"), ("POST", "/predict/batch"), ("GET", "/metrics"), ("GET", "/model"), ("GET", "/nowhere")]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A key for each scope, and their file."""
    file = tmp_path_factory.mktemp("secrets") / "keys"
    made = {scope: new_key(f"for-{scope}", scope) for scope in ("all", "metrics")}
    file.write_text("\n".join(line for _, line in made.values()))
    return {scope: key for scope, (key, _) in made.items()} | {"file": str(file)}


@pytest.fixture(scope="module")
def locked(predictor: Predictor, keys: dict[str, str]) -> Iterator[TestClient]:
    """A service that requires keys."""
    with TestClient(with_middleware(create_app(Settings(keys=Path(keys["file"])), predictor))) as client:
        yield client


def ask(client: TestClient, method: str, path: str, headers: Any = None) -> Any:
    """One request; POST sends the worked example."""
    content = json.dumps([EXAMPLE] if "batch" in path else EXAMPLE) if method == "POST" else None
    sent = [("Content-Type", "application/json"), *(headers.items() if isinstance(headers, dict) else headers or ())]
    return client.request(method, path, content=content, headers=sent)


@pytest.mark.parametrize(("method", "path"), NEEDED)
def test_a_request_without_a_valid_key_gets_401(locked: TestClient, method: str, path: str) -> None:
    """As problem+json with WWW-Authenticate."""
    for headers in ({}, {"Authorization": ""}, {"X-API-Key": ""}, {"Authorization": "Bearer"}, {"X-API-Key": "heart_"}):
        response = ask(locked, method, path, headers)
        assert response.status_code == 401
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["www-authenticate"].startswith("Bearer ")
        assert response.json()["status"] == 401


@pytest.mark.parametrize(("method", "path"), NEEDED)
def test_a_valid_key_gives_access_to_every_path(
    locked: TestClient, keys: dict[str, str], method: str, path: str
) -> None:
    """In either header; the word Bearer in any case."""
    expected = 404 if path == "/nowhere" else 200
    for header in (
        {"Authorization": f"Bearer {keys['all']}"},
        {"authorization": f"bEARER  {keys['all']}"},
        {"X-API-Key": keys["all"]},
    ):
        assert ask(locked, method, path, header).status_code == expected


def test_probes_and_documentation_need_no_key(locked: TestClient) -> None:
    """An orchestrator has no key, and /docs asks for one itself."""
    for path in ("/health/live", "/health/ready", "/docs", "/openapi.json", "/static-offline-docs/swagger-ui.css"):
        assert locked.get(path).status_code == 200


def test_a_key_for_metrics_gets_403_elsewhere(locked: TestClient, keys: dict[str, str]) -> None:
    """The error names the path that the key may read."""
    header = {"Authorization": f"Bearer {keys['metrics']}"}
    assert ask(locked, "GET", "/metrics", header).status_code == 200
    for method, path in NEEDED:
        if path != "/metrics":
            response = ask(locked, method, path, header)
            assert response.status_code == 403
            assert "/metrics" in response.json()["detail"]


def test_a_request_with_two_keys_is_rejected(locked: TestClient, keys: dict[str, str]) -> None:
    """A proxy in front may have checked the other one."""
    bearer, other = ("Authorization", f"Bearer {keys['all']}"), ("X-API-Key", keys["all"])
    for headers in ([bearer, bearer], [bearer, other], [other, ("X-API-Key", "x")]):
        assert ask(locked, "POST", "/predict", headers).status_code == 401


@pytest.mark.parametrize("other", ["Basic dXNlcjpwYXNz", "Negotiate YII=", "", "basic", "Digest  x"])
def test_a_key_counts_beside_credentials_of_another_scheme(
    locked: TestClient, keys: dict[str, str], other: str
) -> None:
    """A proxy that asks for a password passes it on; alone it is no key, and the answer says what is wrong with it."""
    beside = [("Authorization", other), ("X-API-Key", keys["all"])]
    assert ask(locked, "POST", "/predict", beside).status_code == 200
    assert ask(locked, "POST", "/predict", beside[::-1]).status_code == 200
    alone = ask(locked, "POST", "/predict", beside[:1])
    assert alone.status_code == 401
    assert alone.json()["detail"].startswith("The scheme of `Authorization` must be Bearer. ")
    assert "dXNlcjpwYXNz" not in alone.text


def test_blanks_around_a_header_are_not_part_of_its_key(locked: TestClient, keys: dict[str, str]) -> None:
    """RFC 9110, section 5.5: a file of headers with Windows line ends leaves some."""
    for header in (("X-API-Key", f"{keys['all']}  "), ("Authorization", f"Bearer \t{keys['all']} \t")):
        assert ask(locked, "POST", "/predict", [header]).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "//predict",
        "/predict/",
        "/%70redict",
        "/PREDICT",
        "/predict%00",
        "/health/live/../../predict",
        "/health/live%2f..%2f..%2fpredict",
        "/predict?/health/live",
        "/docs/../predict",
        "/openapi.json/../predict",
        "/health/live/",
        "/metrics/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "TRACE", "PUT"])
def test_no_spelling_of_a_path_bypasses_authentication(locked: TestClient, method: str, path: str) -> None:
    """Only the exact open paths need no key."""
    locked.base_url = locked.base_url.copy_with(raw_path=b"/")
    assert ask(locked, method, f"http://testserver{path}").status_code in (401, 404)


def test_openapi_says_which_requests_need_a_key(locked: TestClient, client: TestClient) -> None:
    """And mentions no keys when none are required."""
    document = locked.get("/openapi.json").json()
    assert {*document["components"]["securitySchemes"]} == {"bearer", "header"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            needed = path not in PROBES
            assert ("security" in operation) == needed
            assert {"401", "403"} <= set(operation["responses"]) or not needed
    assert "security" not in client.get("/openapi.json").text


def test_no_error_and_no_log_line_repeats_the_key(locked: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    response = ask(locked, "POST", "/predict", {"X-API-Key": "heart_almost-right"})
    assert "almost-right" not in response.text + str(response.headers) + caplog.text
