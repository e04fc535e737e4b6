"""Every failure is a problem+json with the documented status and advice, and repeats no value."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from patient.record import EXAMPLE, measurements
from service.app import create_app
from service.http import problems as errors
from service.http.problems import FieldError, ProblemDetails
from service.model.predictor import Predictor
from service.settings import Settings

JSON = {"Content-Type": "application/json"}
GOOD = json.dumps(EXAMPLE)


def problem(response: Any, status: int) -> ProblemDetails:
    """The problem in a response, after a check of its form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    details = ProblemDetails.model_validate_json(response.content)
    assert (details.status, bool(details.title), bool(details.detail)) == (status, True, True)
    return details


def post(client: TestClient, content: str | bytes, path: str = "/predict") -> Any:
    """POST these bytes as JSON."""
    return client.post(path, content=content, headers=JSON)


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"not json", 400),
        (b"\xff\xfe{\x00", 400),
        (b"\xef\xbb\xbf{", 400),
        (b'{"age": "\\ud800"}', 400),
        (b'{"\\ud800": 1}', 400),
        (b"[" * 10_000, 400),
        (b'{"age":' * 2_000, 400),
        (b"[" * 8_000 + b"]" * 8_000, 400),
        (GOOD.encode() + b"x", 400),
        (GOOD.replace("63", "NaN").encode(), 422),
        (GOOD.replace("63", "Infinity").encode(), 422),
        (GOOD.replace("63", "-Infinity").encode(), 422),
        (GOOD.replace("63", "1e999").encode(), 422),
        (GOOD.replace("63", "9" * 5000).encode(), 400),
        (GOOD.replace('"cp": 1', '"cp": ' + "9" * 4000).encode(), 422),
        (b"null", 422),
        (b"[]", 422),
        (b"3", 422),
        (b'"patient"', 422),
        (b"{}", 422),
        (b"[[]]", 422),
        (b"[null]", 422),
    ],
)
def test_a_body_that_is_not_a_record_is_a_client_error(
    client: TestClient, path: str, content: bytes, status: int
) -> None:
    """Malformed JSON is 400, JSON that is not a record is 422, and nothing is 500."""
    problem(post(client, content, path), status)
    if status == 422 and path.endswith("batch"):
        problem(post(client, b"[" + content + b"]", path), status)


def test_every_error_of_a_record_is_listed(client: TestClient) -> None:
    """Invalid, missing and unknown fields in one response, each with its pointer and what was expected."""
    record = {**EXAMPLE, "chol": 0, "thal": "fixed", "a/b~c": 1}
    del record["age"]
    details = problem(post(client, json.dumps(record)), 422)
    assert details.errors is not None
    assert {error.pointer: error.detail for error in details.errors} == {
        "/age": "Age is missing",
        "/chol": "Serum cholesterol must be a number from 50 to 1000 mg/dl; null if it was not taken",
        "/thal": "Thallium scan must be a JSON number, not a string: "
        + next(field.valid_values for field in measurements() if field.name == "thal"),
        "/a~1b~0c": "Not a field of a patient record",
    }
    assert details.total == 4


def test_one_invalid_row_rejects_the_batch_and_is_named_with_its_field(client: TestClient) -> None:
    """The pointer starts with the row, counted from 0."""
    batch = [EXAMPLE, EXAMPLE, EXAMPLE, EXAMPLE | {"chol": 0}]
    details = problem(post(client, json.dumps(batch), "/predict/batch"), 422)
    assert details.errors is not None
    assert [error.pointer for error in details.errors] == ["/3/chol"]


def test_a_hundred_errors_are_listed_and_all_are_counted(client: TestClient) -> None:
    """A response stays small, whatever was sent."""
    batch = [EXAMPLE | {"age": 400, "sex": None}] * 150
    details = problem(post(client, json.dumps(batch), "/predict/batch"), 422)
    assert details.errors is not None
    assert (len(details.errors), details.total) == (100, 300)


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_a_duplicate_key_is_rejected_by_name(client: TestClient, path: str) -> None:
    """JSON parsers silently take the last one, and it is unclear which is the patient's."""
    doubled = GOOD[:-1] + ', "age": 64, "\\u0063hol": 200}'
    content, row = (f"[{GOOD}, {doubled}]", "/1") if path.endswith("batch") else (doubled, "")
    details = problem(post(client, content, path), 422)
    found = {(error.pointer, error.detail) for error in details.errors or []}
    assert found == {(f"{row}/age", "Age is given twice"), (f"{row}/chol", "Serum cholesterol is given twice")}


def test_an_unknown_name_is_truncated_in_the_error(client: TestClient) -> None:
    """A response does not grow with what was sent."""
    details = problem(post(client, json.dumps(EXAMPLE | {"x" * 10_000: 1})), 422)
    assert details.errors == [FieldError(detail="Not a field of a patient record", pointer="/" + "x" * 64)]


@pytest.mark.parametrize("media_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "json"])
def test_another_content_type_is_415(client: TestClient, media_type: str | None) -> None:
    """And the error names the right one."""
    headers = {} if media_type is None else {"Content-Type": media_type}
    response = client.post("/predict", content=GOOD, headers=headers)
    assert "application/json" in problem(response, 415).detail
    assert response.headers["accept-post"] == "application/json"


def test_an_unknown_path_is_404(client: TestClient) -> None:
    """With a hint at /docs; a trailing slash is not redirected."""
    assert "/docs" in problem(client.get("/nowhere"), 404).detail
    problem(client.post("/predict/", json=EXAMPLE, follow_redirects=False), 404)


@pytest.mark.parametrize(("method", "path"), [("GET", "/predict"), ("DELETE", "/predict/batch"), ("POST", "/model")])
def test_a_wrong_method_is_405_and_names_the_right_one(client: TestClient, method: str, path: str) -> None:
    """RFC 9110 wants the Allow header."""
    response = client.request(method, path)
    problem(response, 405)
    assert response.headers["allow"] in {"GET, HEAD", "POST"}


def test_a_body_over_the_limit_is_413_with_and_without_content_length(predictor: Predictor) -> None:
    """By its Content-Length before it is read, or else by the bytes that arrive."""

    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    with TestClient(create_app(Settings(max_body=1000), predictor)) as client:
        assert "1000 bytes" in problem(post(client, b" " * 1001), 413).detail
        problem(client.post("/predict", content=chunks(), headers=JSON), 413)
        assert post(client, GOOD + " " * (1000 - len(GOOD))).status_code == 200


def test_a_batch_over_the_limit_of_rows_is_413(predictor: Predictor) -> None:
    """The error names the limit, which is a setting."""
    with TestClient(create_app(Settings(max_rows=2), predictor)) as client:
        assert post(client, f"[{GOOD},{GOOD}]", "/predict/batch").status_code == 200
        assert (
            "the limit of a JSON array is 2. Send more as a stream"
            in problem(post(client, f"[{GOOD},{GOOD},{GOOD}]", "/predict/batch"), 413).detail
        )


def test_before_a_model_is_loaded_everything_that_needs_one_is_503() -> None:
    """The process is live but not ready, and says why, with Retry-After."""
    waiting = TestClient(create_app(Settings()))  # not entered: its lifespan has not begun
    assert waiting.get("/health/live").status_code == 200
    gets, posts = ("/health/ready", "/model"), ("/predict", "/predict/batch", "/explain")
    for method, path in [*(("GET", path) for path in gets), *(("POST", path) for path in posts)]:
        content = f"[{GOOD}]" if "batch" in path else GOOD
        response = waiting.request(method, path, content=content if method == "POST" else None, headers=JSON)
        assert "No model" in problem(response, 503).detail
        assert response.headers["retry-after"] == "1"


def test_an_unexpected_exception_is_a_500_without_details(monkeypatch: pytest.MonkeyPatch, client: TestClient) -> None:
    """Only the log has the traceback."""

    def bug(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Predictor, "predict_bytes", bug)
    response = client.post("/predict", json=EXAMPLE)
    problem(response, 500)
    assert "secret" not in response.text


def test_a_client_that_disconnects_midway_is_not_logged_as_an_error(predictor: Predictor, caplog: Any) -> None:
    """A connection that ends before its body is the client's failure."""
    app = create_app(Settings(), predictor)
    app.state.heart.serve(predictor)
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    assert [message["status"] for message in sent if "status" in message] == [499]  # FastAPI wants to send something
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_no_value_that_was_sent_is_in_a_response_or_a_log(client: TestClient, caplog: Any) -> None:
    """Whatever is wrong with a record: its measurements belong to a patient."""
    marks = ["98765.4321", '"Jane Doe"', "123456789", '["Jane Doe"]', '{"Jane Doe": 98765.4321}', "-98765.4321"]
    caplog.set_level(logging.DEBUG)
    for mark in marks:
        for name, value in EXAMPLE.items():
            content = GOOD.replace(f'"{name}": {value}', f'"{name}": {mark}')
            assert content != GOOD
            for body in (content, f"[{content}]", content[:-1]):
                answer = post(client, body, "/predict/batch" if body[0] == "[" else "/predict")
                assert answer.status_code in (400, 422)
                for secret in ("98765", "Jane", "123456789"):
                    assert secret not in answer.text
                    assert secret not in caplog.text


def test_the_table_in_the_module_docstring_is_complete(client: TestClient) -> None:
    """It lists the statuses that OpenAPI documents, and no other."""
    schema = client.get("/openapi.json").json()
    documented = {status for path in schema["paths"].values() for op in path.values() for status in op["responses"]}
    table = {line[54:57] for line in (errors.__doc__ or "").splitlines() if line[54:57].isdigit()}
    anywhere = {"401", "403", "404", "405", "414", "421", "431"}
    assert documented - {"200"} | anywhere == table
