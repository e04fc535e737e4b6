"""Every request has an id and is counted by route and status; exceptions are logged without their messages."""

import asyncio
import json
import logging
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import FastAPI, Response
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message, Receive, Scope, Send

from patient.record import EXAMPLE, FIELDS
from service.api.state import AppState
from service.app import create_app, with_middleware
from service.http.request_log import RequestLogMiddleware, route_templates
from service.model.predictor import Predictor
from service.observe import log, log_writer
from service.observe.log_format import JsonFormatter, TextFormatter
from service.observe.prometheus import exposition
from service.settings import Settings

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(client: TestClient) -> Samples:
    """Read /metrics with Prometheus's own parser."""
    families = list(text_string_to_metric_families(client.get("/metrics").text))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation for family in families)
    found = [((s.name, tuple(sorted(s.labels.items()))), s.value) for family in families for s in family.samples]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.fixture
def served(predictor: Predictor) -> Any:
    """A client of a new app behind its middleware."""
    with TestClient(
        with_middleware(create_app(Settings(max_rows=50), predictor)), raise_server_exceptions=False
    ) as client:
        yield client


def value(found: Samples, name: str, **labels: str) -> float:
    """Return the value of one sample, or 0 if it is absent."""
    return found.get((name, tuple(sorted(labels.items()))), 0)


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/health/live", "/metrics", "/nothing", "/docs"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_response_has_the_request_id_that_was_sent(served: TestClient, path: str, method: str) -> None:
    """On the fast path and from FastAPI, for success and errors."""
    answer = served.request(method, path, headers={"X-Request-ID": "ward-7:42_x.y"})
    assert answer.headers.get_list("x-request-id") == ["ward-7:42_x.y"]


@pytest.mark.parametrize("sent", ["", "a b", "a" * 129, 'x"y', "ü", "a\tb", "{}", "a\\b"])
def test_an_invalid_request_id_is_replaced(served: TestClient, sent: str) -> None:
    """It is logged: it must neither break a line or its JSON, nor be endless."""
    headers = {b"X-Request-ID": sent.encode("latin-1")}
    made = {served.get("/health/live", headers=headers).headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    assert sent not in made


def test_requests_are_counted_by_route_and_status(served: TestClient) -> None:
    """Only templates and known statuses have series: clients cannot add any."""
    served.post("/predict", json=EXAMPLE)
    served.post("/predict", json=[])
    served.post("/predict", content=b"x")
    served.get("/predict")
    served.post("/predict/batch", json=[EXAMPLE])
    for n in range(5):
        served.get(f"/made/up/{n}")
    found = samples(served)
    count = {
        (labels["route"], labels["status"]): number
        for (name, pairs), number in found.items()
        if name == "heart_requests_total" and number and (labels := dict(pairs))
    }
    assert count == {
        ("/predict", "200"): 1, ("/predict", "422"): 1, ("/predict", "415"): 1, ("/predict", "405"): 1,
        ("/predict/batch", "200"): 1, ("other", "404"): 5,
    }  # fmt: skip
    assert value(found, "heart_request_seconds_count", route="/predict") == 4
    assert value(found, "heart_request_seconds_bucket", route="/predict", le="+Inf") == 4
    buckets = [n for (name, pairs), n in found.items() if name.endswith("s_bucket") and ("route", "/predict") in pairs]
    assert buckets == sorted(buckets)
    assert value(found, "heart_request_seconds_sum", route="/predict") > 0
    assert value(samples(served), "heart_requests_total", route="/metrics", status="200") == 1


def tensor(*records: dict[str, Any]) -> str:
    """Make a request of the Open Inference Protocol."""
    data = [list(record.values()) for record in records]
    patient = {"name": "patient", "shape": [len(data), len(FIELDS)], "datatype": "FP32", "data": data}
    return json.dumps({"inputs": [patient]})


@pytest.mark.parametrize(
    ("path", "content", "kind"),
    [
        ("/predict", json.dumps(EXAMPLE | {"chol": 1, "odd": 2}), "application/json"),
        ("/predict/batch", json.dumps([EXAMPLE, EXAMPLE | {"chol": 1, "odd": 2}]), "application/json"),
        ("/predict/batch", json.dumps(EXAMPLE | {"chol": 1, "thal": "x"}), "application/x-ndjson"),
        ("/predict/batch?on_error=refuse", json.dumps(EXAMPLE | {"chol": 1, "thal": "x"}), "application/x-ndjson"),
        ("/predict/batch?keep=*", json.dumps([EXAMPLE | {"chol": 1, "thal": 99}]), "application/json"),
        ("/predict/batch", ",".join(FIELDS) + "\n63,1,1,145,1,1,2,150,0,2.3,3,0,66\n", "text/csv"),
        ("/explain", json.dumps([EXAMPLE | {"chol": 1, "thal": 99}]), "application/json"),
        ("/v2/models/heart_disease/infer", tensor(EXAMPLE | {"chol": 1, "thal": 99}), "application/json"),
    ],
)
def test_invalid_records_are_counted_by_field(served: TestClient, path: str, content: str, kind: str) -> None:
    """On every route and in every format; an unknown key counts as `other`, not under its name."""
    served.post(path, content=content.encode(), headers={"Content-Type": kind})
    found = samples(served)
    numbers = {dict(pairs)["field"]: n for (name, pairs), n in found.items() if name == "heart_refused_total"}
    assert set(numbers) == {*FIELDS, "other"}
    assert {field: n for field, n in numbers.items() if n} == {"chol": 1, ("other" if "odd" in content else "thal"): 1}


def test_invalid_records_that_a_response_does_not_list_are_counted_too(served: TestClient) -> None:
    """Those that the column check finds, and those that Pydantic finds."""
    served.post("/predict/batch", json=[dict.fromkeys(FIELDS, 10**6)] * 40)
    served.post("/predict/batch", json=[dict.fromkeys(FIELDS, "x")] * 40)
    assert value(samples(served), "heart_refused_total", field="thal") == 80


@pytest.mark.parametrize(
    ("path", "content", "kind", "rows"),
    [
        ("/predict", json.dumps(EXAMPLE | {"ca": None}), "application/json", 1),
        ("/predict/batch", json.dumps([EXAMPLE | {"ca": None}] * 7), "application/json", 7),
        ("/predict/batch", "\n".join([json.dumps(EXAMPLE | {"ca": None})] * 7 + ["{}"]), "application/x-ndjson", 7),
        ("/v2/models/heart_disease/infer", tensor(EXAMPLE | {"ca": None}), "application/json", 1),
        ("/v2/models/heart_disease/infer", tensor(*[EXAMPLE | {"ca": None}] * 7), "application/json", 7),
        ("/v2/models/heart_disease/infer", tensor(*[EXAMPLE | {"ca": None}] * 7), "deflate", 7),
    ],
)
def test_scored_records_are_counted_by_bins(served: TestClient, path: str, content: str, kind: str, rows: int) -> None:
    """Each once per feature, on every route and in every format; invalid ones are not."""
    headers, body = {"Content-Type": kind}, content.encode()
    if kind == "deflate":  # runs in a thread
        headers, body = {"Content-Type": "application/json", "Content-Encoding": kind}, zlib.compress(body)
    assert served.post(path, content=body, headers=headers).status_code == 200
    found = samples(served)
    version = next(dict(pairs)["version"] for name, pairs in found if name == "heart_model_info")
    bins = {
        (labels["feature"], labels["bin"]): n
        for (name, pairs), n in found.items()
        if name == "heart_feature_total" and n and (labels := dict(pairs))["version"] == version
    }
    assert len(bins) == len(FIELDS) + 1
    assert set(bins.values()) == {rows}
    assert {("ca", "missing"), ("thal", "6"), ("age", "66.0"), ("oldpeak", "2.8")} <= set(bins)
    assert value(found, "heart_missing_total", field="ca") == rows
    assert value(found, "heart_missing_total", field="thal") == 0


async def fault(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """An application with a bug, whose exception quotes its input."""
    raise ValueError("chol is 98765")


def test_an_exception_is_answered_by_500_and_logged_without_its_message(
    predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    """The message may hold a patient's values."""
    app = create_app(Settings(), predictor)
    state: AppState = app.state.heart
    client = TestClient(RequestLogMiddleware(fault, state.routes, state.metrics, None))
    answer = client.post("/predict", headers={"X-Request-ID": "id-1"})
    assert (answer.status_code, answer.json()["status"], answer.headers["x-request-id"]) == (500, 500, "id-1")
    (record,) = (record for record in caplog.records if record.levelno >= logging.ERROR)
    said = json.loads(JsonFormatter().format(record))
    assert (said["level"], said["message"], said["exception"]) == (
        "error",
        "unhandled exception in POST /predict",
        "ValueError",
    )
    assert said["stack"][-1].startswith("tests/service/http/test_request_log.py:")
    for formatter in (JsonFormatter(), TextFormatter()):
        assert "98765" not in formatter.format(record)


def test_an_exception_in_a_route_is_logged_once(predictor: Predictor, caplog: pytest.LogCaptureFixture) -> None:
    """Starlette responds and raises it again; the server would log it a second time, without the id."""
    app = create_app(Settings(), predictor)

    @app.get("/bug")
    async def bug() -> Response:
        raise ZeroDivisionError

    with TestClient(with_middleware(app)) as client:
        caplog.clear()
        assert client.get("/bug").json()["detail"] == "Internal error; it has been logged."
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
        "unhandled exception in GET other"
    ]


def test_a_client_that_left_before_the_response_counts_as_499_and_a_cut_response_as_cut(predictor: Predictor) -> None:
    """499 where no response had begun, else `cut`."""
    state: AppState = create_app(Settings(), predictor).state.heart

    async def leaves(_scope: Scope, _receive: Receive, _send: Send) -> None:
        pass

    async def cuts(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    async def heard(_message: Message) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
    for app in (leaves, cuts):
        asyncio.run(RequestLogMiddleware(app, state.routes, state.metrics, None)(scope, nothing, heard))
    text = b"".join(exposition(state.metrics, state.routes, state.model)).decode()
    assert 'heart_requests_total{route="/predict",status="499"} 1.0' in text
    assert 'heart_requests_total{route="/predict",status="cut"} 1.0' in text


def test_templates_of_all_routers_are_found_up_to_the_limit() -> None:
    """Further routes are counted together."""
    app = FastAPI()
    for n in range(100):
        app.get(f"/{n}/{{name}}")(lambda: None)
    assert "/3/{name}" in route_templates(app)
    assert len(route_templates(app)) == 47
    assert {"/predict", "/predict/batch", "/health/ready", "/docs"} <= set(route_templates(create_app(Settings())))


@contextmanager
def logging_to_stderr(settings: Settings) -> Iterator[None]:
    """Log as a process of its own does: pytest's handlers are away meanwhile."""
    root = logging.getLogger()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.setattr(root, "level", root.level)
        patch.setattr(root, "handlers", [])
        log.to_stderr(settings)
        yield
        log.flush()
        logging.captureWarnings(False)


def test_a_message_that_does_not_fit_its_arguments_shows_none_of_them(capfd: pytest.CaptureFixture[str]) -> None:
    """Python's own handlers print them all."""
    with logging_to_stderr(Settings(log_format="json")):
        logging.getLogger("x").info("%d", "98765")
        logging.getLogger("x").info("fine %d", 1)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert lines[0]["message"].startswith("log message does not fit its arguments: tests/service/http/test_request_log")
    assert lines[1]["message"] == "fine 1"
    assert "98765" not in json.dumps(lines)


@pytest.mark.parametrize("access_log", [True, False])
def test_dropped_log_lines_are_counted_with_and_without_an_access_log(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, access_log: bool
) -> None:
    """So are lines that were dropped before the app existed."""
    settings = Settings(access_log=access_log)
    with logging_to_stderr(settings):
        monkeypatch.setattr(log_writer, "MAX_ENTRIES", 0)
        logging.getLogger("x").warning("early")
        client = TestClient(with_middleware(create_app(settings, predictor)))
        logging.getLogger("x").warning("late")
        assert value(samples(client), "heart_log_dropped_total") == 2
