"""Every answer tells a browser what not to do with it, and no other origin may read it unless it is named."""

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
    """The service as it ships."""
    with TestClient(with_middleware(create_app(Settings(), predictor)), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def shared(predictor: Predictor) -> Iterator[TestClient]:
    """The same, for a page of one other origin."""
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
def test_every_answer_is_kept_by_nobody_and_taken_for_what_it_is(
    served: TestClient, method: str, path: str, status: int
) -> None:
    """Each header once; where a browser shows what it gets, nobody may frame it either. No word on what serves."""
    response = served.request(method, path, json=EXAMPLE if method == "POST" else None)
    assert response.status_code == status
    assert response.headers.get_list("cache-control") == ["no-store"]
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]
    assert "server" not in response.headers
    if method == "GET":
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert response.headers["referrer-policy"] == "no-referrer"


def test_the_documentation_runs_its_own_scripts_and_no_others(served: TestClient) -> None:
    """The inline one by its hash."""
    policy = dict(part.split(" ", 1) for part in served.get("/docs").headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"].startswith("'self' 'sha256-")
    assert "unsafe" not in policy["script-src"]
    assert policy["connect-src"] == "'self'"


def test_no_other_origin_may_read_answers(served: TestClient) -> None:
    """By default no origin is told that it may."""
    for response in (
        served.post("/predict", json=EXAMPLE, headers={"Origin": HERE}),
        served.options("/predict", headers={"Origin": HERE, "Access-Control-Request-Method": "POST"}),
    ):
        assert not [name for name in response.headers if name.startswith("access-control-")]


def test_an_origin_that_is_named_may_read_answers(shared: TestClient) -> None:
    """Of the short way too, with the headers that it asks for; another one may not."""
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
