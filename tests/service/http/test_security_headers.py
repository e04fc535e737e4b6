"""Every response has security headers, and other origins may read it only if the settings name them."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from patient.record import EXAMPLE
from service.app import create_app, with_middleware
from service.model.predictor import Predictor
from service.settings import Settings

HERE, ELSEWHERE = "https://ward.example", "https://elsewhere.example"


@pytest.fixture(scope="module")
def served(predictor: Predictor) -> Iterator[TestClient]:
    """The service with the default settings."""
    with TestClient(with_middleware(create_app(Settings(), predictor)), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def shared(predictor: Predictor) -> Iterator[TestClient]:
    """The service with one allowed origin."""
    with TestClient(with_middleware(create_app(Settings(cors_origins=[HERE]), predictor))) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/predict", 200),
        ("POST", "/predict/batch", 422),
        ("GET", "/predict", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/metrics", 200),
        ("GET", "/model", 200),
        ("GET", "/docs", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/static-offline-docs/swagger-ui.css", 200),
    ],
)
def test_every_response_has_its_security_headers_once(served: TestClient, method: str, path: str, status: int) -> None:
    """No cache and no sniffing; HTML may not be framed; nothing names the server."""
    response = served.request(method, path, json=EXAMPLE if method == "POST" else None)
    assert response.status_code == status
    assert response.headers.get_list("cache-control") == ["no-store"]
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]
    assert "server" not in response.headers
    if method == "GET":
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert response.headers["referrer-policy"] == "no-referrer"


def test_the_documentation_may_run_only_its_own_scripts(served: TestClient) -> None:
    """The CSP allows the inline script by its hash."""
    policy = dict(part.split(" ", 1) for part in served.get("/docs").headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"].startswith("'self' 'sha256-")
    assert "unsafe" not in policy["script-src"]
    assert policy["connect-src"] == "'self'"


def test_by_default_no_other_origin_may_read_responses(served: TestClient) -> None:
    """Responses have no CORS headers."""
    for response in (
        served.post("/predict", json=EXAMPLE, headers={"Origin": HERE}),
        served.options("/predict", headers={"Origin": HERE, "Access-Control-Request-Method": "POST"}),
    ):
        assert not [name for name in response.headers if name.startswith("access-control-")]


def test_an_allowed_origin_may_read_responses(shared: TestClient) -> None:
    """Also those of the fast path; another origin may not."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,authorization"}
    assert shared.options("/predict", headers={"Origin": HERE} | asked).status_code == 200
    assert shared.options("/predict", headers={"Origin": ELSEWHERE} | asked).status_code == 400
    answers = {
        origin: shared.post("/predict", json=EXAMPLE, headers={"Origin": origin}) for origin in (HERE, ELSEWHERE)
    }
    assert answers[HERE].headers["access-control-allow-origin"] == HERE
    assert "access-control-allow-origin" not in answers[ELSEWHERE].headers
    for answer in answers.values():
        assert answer.status_code == 200
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.headers["cache-control"] == "no-store"


def test_a_preflight_may_ask_for_trace_headers(shared: TestClient) -> None:
    """OpenTelemetry in a browser sends them with every request."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "traceparent, tracestate"}
    response = shared.options("/predict", headers={"Origin": HERE} | asked)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == HERE


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        ({"Origin": ELSEWHERE}, "origin"),
        ({"Access-Control-Request-Method": "DELETE"}, "method"),
        ({"Access-Control-Request-Headers": "x-mine"}, "headers"),
        ({"Origin": ELSEWHERE, "Access-Control-Request-Method": "PUT"}, "origin and method"),
    ],
)
def test_a_refused_preflight_is_a_problem_that_names_the_cause(
    shared: TestClient, asked: dict[str, str], refused: str
) -> None:
    """It says what is allowed, and repeats nothing of the request."""
    response = shared.options("/predict", headers={"Origin": HERE, "Access-Control-Request-Method": "POST"} | asked)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"].startswith(f"Not allowed across origins: the request's {refused}. Allowed are ")
    assert ELSEWHERE not in response.text
    assert ("access-control-allow-origin" in response.headers) == ("Origin" not in asked)
    assert "Access-Control-Request-Method" in response.headers["vary"]  # so that a cache keeps the answers apart
