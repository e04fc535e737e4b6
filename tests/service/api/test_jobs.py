"""The jobs of worker processes, run in this process: what they give for tables, forms and tensors of every kind."""

import io
import json
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.requests import Request

from patient.encoding import Floats
from patient.record import EXAMPLE, FIELDS
from service.api import jobs
from service.http.problems import Problem
from service.isolation.messages import Done
from service.isolation.worker import Body, JobFailed, Service
from service.model.predictor import Predictor
from service.records.results import rounded
from service.settings import Settings

CSV = f"{','.join(FIELDS)}\n{','.join(str(EXAMPLE[name]) for name in FIELDS)}\n".encode()
LINE = json.dumps(EXAMPLE).encode() + b"\n"
JSON_LENGTH = "Inference-Header-Content-Length"


class Local:
    """A service without a socket: it scores at once, and keeps what it is told."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.result: dict[str, Any] = {}
        self.told: list[dict[str, Any]] = []

    def score(self, columns: Floats) -> NDArray[np.float64]:
        return rounded(self.predictor.predict_columns(columns))

    def tell(self, event: dict[str, Any]) -> None:
        self.told.append(event)


Run = Callable[..., tuple[bytes, Local]]


@pytest.fixture
def run(predictor: Predictor) -> Run:
    """Run a job on a body with these headers; return the response and the service."""

    def run(job: str, body: bytes, headers: dict[str, str], query: str = "", **settings: Any) -> tuple[bytes, Local]:
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "headers": raw, "query_string": query.encode(), "path": "/", "server": ("t", 80)}
        names = tuple(name.lower() for name in headers)
        given = jobs.arguments(Request(scope), names, predictor, Settings(**settings))
        service = Local(predictor)
        pieces = jobs.JOBS[job](given, cast(Body, io.BytesIO(body)), cast(Service, service))
        return b"".join(pieces), service

    return run


def failed(run: Run, *arguments: Any, **settings: Any) -> Problem:
    """The problem that a failed job has sent."""
    with pytest.raises(JobFailed) as caught:
        run(*arguments, **settings)
    with pytest.raises(Problem) as problem:
        jobs.result(Done(None, json.loads(json.dumps(caught.value.failure))))
    return problem.value


def test_a_table_gives_its_format_its_rows_and_its_counts(run: Run) -> None:
    content, service = run(jobs.TABLE, CSV, {"Content-Type": "text/csv"})
    assert content == b"probability,heart_disease,missing\n0.3360956,false,\n"
    assert service.told == [{"media_type": "text/csv", "notes": []}]
    assert service.result == {"rows": 1, "bad": 0}


def test_a_stream_ends_with_its_counts_and_tells_invalid_fields(run: Run) -> None:
    bad = json.dumps(EXAMPLE | {"chol": 5}).encode()
    content, service = run(jobs.TABLE, LINE + bad, {"Content-Type": "application/x-ndjson"})
    assert json.loads(content.splitlines()[-1])["summary"]["bad"] == 1
    assert {"invalid_fields": {"chol": 1}} in service.told
    assert service.result == {"rows": 2, "bad": 1}


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_form_is_a_table_of_its_files_format(run: Run, pieces: int) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.csv"\r\n\r\n'
    rows = CSV + CSV.split(b"\n", 1)[1] * (pieces - 1)
    content, _ = run(jobs.TABLE, head + rows + b"\r\n--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"})
    assert content.count(b"0.3360956") == pieces


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 400, "cut off"),
        (b"nonsense", 400, "not multipart"),
        (b"--x--\r\n", 400, "no file"),
        (b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\nvalue\r\n--x--\r\n', 415, "Name the form's file"),
        (b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.csv"\r\n\r\n' + CSV, 400, "cut off"),
    ],
)
def test_a_form_without_a_table_fails(run: Run, body: bytes, status: int, detail: str) -> None:
    problem = failed(run, jobs.TABLE, body, {"Content-Type": "multipart/form-data; boundary=x"})
    assert problem.status == status
    assert detail in problem.detail


def test_failures_arrive_as_they_are(run: Run) -> None:
    """With the errors of rows, hints, and limits."""
    bad = CSV + b"1,2\n"
    problem = failed(run, jobs.TABLE, bad, {"Content-Type": "text/csv"})
    assert (problem.status, problem.total) == (422, 1)
    assert problem.errors[0].pointer == "/1"
    assert "on_error=report" in problem.detail
    assert failed(run, jobs.TABLE, CSV, {"Content-Type": "text/csv"}, max_table_rows=1, max_table=20).status == 413
    array = b"[%b]" % b",".join([LINE] * 3)
    problem = failed(run, jobs.TABLE, array, {"Content-Type": "application/json"}, "on_error=report", max_rows=2)
    assert "NDJSON" in problem.detail
    assert failed(run, jobs.TABLE, CSV.split(b"\n")[0], {"Content-Type": "text/csv"}).status == 422


def tensor(rows: int) -> tuple[bytes, bytes]:
    """The JSON of a request, and its binary tensor."""
    values = np.array([[EXAMPLE[name] for name in FIELDS]] * rows, np.float32).tobytes()
    size = {"binary_data_size": len(values)}
    head = {"inputs": [{"name": "patient", "shape": [rows, 13], "datatype": "FP32", "parameters": size}]}
    return json.dumps(head).encode(), values


def test_inference_gives_headers_and_rows(run: Run) -> None:
    head, values = tensor(3)
    content, service = run(jobs.INFERENCE, head + values, {JSON_LENGTH: str(len(head))})
    assert json.loads(content)["outputs"][0]["data"] == [0.3360956] * 3
    assert service.result["rows"] == 3
    assert service.result["headers"]["content-type"] == "application/json"


def test_inference_fails_as_the_protocol_says(run: Run) -> None:
    head, values = tensor(3)
    assert failed(run, jobs.INFERENCE, head + values[:-4], {JSON_LENGTH: str(len(head))}).status == 400
    assert failed(run, jobs.INFERENCE, head, {JSON_LENGTH: str(len(head) + 1)}).status == 400
    assert (
        failed(run, jobs.INFERENCE, head + values, {JSON_LENGTH: str(len(head))}, max_body=20, max_part=20).status
        == 413
    )


@pytest.mark.parametrize("job", [jobs.TABLE, jobs.INFERENCE])
def test_too_little_memory_is_413(run: Run, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Local, "score", fail)
    head, values = tensor(3)
    body = CSV if job == jobs.TABLE else head + values
    headers = {"Content-Type": "text/csv"} if job == jobs.TABLE else {JSON_LENGTH: str(len(head))}
    assert failed(run, job, body, headers).status == 413


def test_a_bug_is_an_internal_error() -> None:
    for done in (None, Done(None, None)):
        with pytest.raises(Problem) as caught:
            jobs.result(done)
        assert caught.value.status == 500
