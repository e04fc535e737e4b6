"""Every failure's HTTP status and problem+json body (RFC 9457).

    what is wrong                                     status  errors[]
    the body is not JSON, or a damaged table          400     -
    no API key, or one that is invalid                401     -      with WWW-Authenticate, where keys are required
    a valid key without the right to do this          403     -
    no such path                                      404     -
    the path has other methods                        405     -      with Allow
    no type in `Accept` can be produced               406     -
    the request arrived, or was read, too slowly      408     -
    the model has no background for explanations      409     -
    the body, or its number of records, too large     413     -
    the URL too long                                  414     -
    another content type or encoding                  415     -
    a `Host` that is not accepted                     421     -
    a record that PatientRecord refuses               422     one per field, with a JSON pointer (RFC 6901)
    rows, or columns, of a table that are invalid     422     one per cell or column
    a table with the codes of another data set        422     -
    an unknown query parameter                        422     -
    the header section too large                      431     -
    a bug                                             500     -
    the model has no probability for a valid record   500     one per record of a batch
    no model is loaded, or too many requests          503     -      with Retry-After
    the service is stopping (/health/ready alone)     503     -
    the GPU is lost, and provider is cuda             503     -      until the process is restarted
    no disk space to buffer a table                   507     -

Once a table's response has begun, its status cannot change: a failure closes the connection early. Under /v2 errors
have the Open Inference Protocol's shape, {"error": "..."}, and an invalid record is 400. No response and no log line
repeats a value that was sent, because it is a patient's.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from service.http.security_headers import DATA_HEADERS
from service.model.device import DeviceLost
from service.records.errors import (
    MAX_LISTED_ERRORS,
    NO_PROBABILITY,
    ColumnsError,
    DiskFull,
    FieldFault,
    InvalidRecord,
    InvalidRows,
    MalformedJson,
    NoProbability,
    OtherCodebook,
    RecordError,
    TableError,
    TooLarge,
)

if TYPE_CHECKING:
    from fastapi import FastAPI

    from service.observe.metrics import Metrics

CLIENT_CLOSED = 499  # nginx's status for a client that left before a response began
MEDIA_TYPE = "application/problem+json"
OPEN_INFERENCE = "/v2"  # paths of the Open Inference Protocol

STATUSES = {
    MalformedJson: HTTPStatus.BAD_REQUEST,
    InvalidRecord: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidRows: HTTPStatus.UNPROCESSABLE_ENTITY,
    ColumnsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NoProbability: HTTPStatus.INTERNAL_SERVER_ERROR,
    OtherCodebook: HTTPStatus.UNPROCESSABLE_ENTITY,
    DiskFull: HTTPStatus.INSUFFICIENT_STORAGE,
    TableError: HTTPStatus.BAD_REQUEST,
}

log = logging.getLogger(__name__)


class FieldError(BaseModel):
    """One thing that is wrong, and where."""

    detail: str = Field(examples=["Serum cholesterol must be a number from 50 to 1000 mg/dl; null if it was not taken"])
    pointer: str = Field(description="JSON pointer into the body that was sent", examples=["/3/chol"])


class ProblemDetails(BaseModel):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = Field(None, description=f"the first {MAX_LISTED_ERRORS}")
    total: int | None = Field(None, description="number of errors in all; one record counts up to 101")


class Problem(Exception):
    """An error response, raised by a handler.

    fields: number of faults per field of the record, for the metrics
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        errors: Sequence[FieldError] = (),
        total: int | None = None,
        headers: Mapping[str, str] | None = None,
        fields: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.total, self.headers = status, detail, errors, total, headers
        self.fields = fields or {}


INTERNAL_ERROR = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error; it has been logged.")


class ProblemResponse(Response):
    """A problem as a response, in the error shape that belongs to its path."""

    def __init__(self, problem: Problem) -> None:
        self.detail, self.extra_headers = problem.detail, problem.headers  # keep no traceback alive
        body = ProblemDetails(
            title=problem.status.phrase,
            status=problem.status,
            detail=problem.detail,
            errors=list(problem.errors) or None,
            total=problem.total,
        )
        super().__init__(body.model_dump_json(exclude_none=True), problem.status, problem.headers, MEDIA_TYPE)
        self.raw_headers += DATA_HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path != OPEN_INFERENCE and not path.startswith(OPEN_INFERENCE + "/"):
            await super().__call__(scope, receive, send)
            return
        response = JSONResponse({"error": self.detail}, self.status_code, self.extra_headers)
        response.raw_headers += DATA_HEADERS
        await response(scope, receive, send)


def busy(detail: str) -> Problem:
    """503 with Retry-After: the service cannot take this request now, but probably in a second."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"})


def as_problem(error: RecordError | DeviceLost) -> Problem:
    """A domain exception as the problem that HTTP reports."""
    if isinstance(error, DeviceLost):  # waiting does not help, so there is no Retry-After
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
    status = next(status for kind, status in STATUSES.items() if isinstance(error, kind))
    match error:
        case InvalidRecord(faults=faults):
            fields = Counter(fault.field for fault in faults)
            return Problem(status, str(error), _listed(faults), len(faults), fields=fields)
        case InvalidRows(tally=tally):
            listed = [_error(reason, row, column) for row, column, reason in tally.faults]
            return Problem(status, f"{error} See `errors`.", listed, tally.total, fields=tally.fields)
        case ColumnsError(columns=columns):
            detail = "Not a table of patient records, see `errors`."
            return Problem(status, detail, _listed(columns), len(columns), fields={"other": len(columns)})
        case NoProbability(rows=rows):
            log.error("the model has no probability for %d valid records", len(rows) or 1)
            listed = [_error(NO_PROBABILITY, row) for row in rows[:MAX_LISTED_ERRORS]]
            return Problem(status, str(error), listed, len(rows) or None)
    return Problem(status, str(error))


def invalid_rows_problem(error: InvalidRows) -> Problem:
    """422 with a hint at the option that scores the valid rows."""
    problem = as_problem(error)
    problem.detail += " With `?on_error=report` the valid rows are scored."
    return problem


def error_response(error: Problem | RecordError | DeviceLost, metrics: "Metrics") -> ProblemResponse:
    """Return the response to an exception, and count the fields at fault."""
    problem = error if isinstance(error, Problem) else as_problem(error)
    metrics.record_invalid_fields(problem.fields)
    return ProblemResponse(problem)


def install(app: "FastAPI", metrics: "Metrics") -> None:
    async def handle(request: Request, error: Exception) -> Response:
        match error:
            case Problem() | RecordError() | DeviceLost():
                return error_response(error, metrics)
            case HTTPException():
                return ProblemResponse(_routing_problem(error, request.method))
            case ClientDisconnect():  # nobody is left to read it, but it is counted
                return Response(status_code=CLIENT_CLOSED)
        return ProblemResponse(INTERNAL_ERROR)

    for kind in (Problem, RecordError, DeviceLost, HTTPException, ClientDisconnect, Exception):
        app.add_exception_handler(kind, handle)


def documented(*statuses: int) -> dict[int | str, dict[str, object]]:
    """OpenAPI `responses` for a route that can fail with these statuses."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def _listed(faults: Sequence[FieldFault]) -> list[FieldError]:
    return [_error(detail, name) for name, detail in faults[:MAX_LISTED_ERRORS]]


def _error(detail: str, *steps: int | str) -> FieldError:
    """An error with a JSON pointer (RFC 6901) through these steps; empty ones are left out."""
    pointer = "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps if step != "")
    return FieldError(pointer=pointer, detail=detail)


def _routing_problem(error: HTTPException, method: str) -> Problem:
    """Starlette's errors: an unknown path, or a wrong method."""
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if allow := headers.get("Allow"):
        methods = {word.strip() for word in allow.split(",")}
        allow = headers["Allow"] = ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))
    detail = {
        HTTPStatus.NOT_FOUND: "No such path; /docs lists the paths of this service.",
        HTTPStatus.METHOD_NOT_ALLOWED: f"This path does not allow {method}; it allows {allow}.",
    }.get(status, status.description)
    return Problem(status, detail, headers=headers)
