"""Failure -> status and problem+json (RFC 9457).

    what is wrong                                  status  errors[]
    the body is not JSON, or a damaged table       400     -
    the client left before its body had ended      400     -
    no key, or one that is not good                401     -      with WWW-Authenticate, where keys are asked for
    a good key that may not do this                403     -
    no such path                                   404     -
    the path takes other methods                   405     -      with Allow
    no type that `Accept` names can be answered    406     -
    the request, or what took it, came too slowly  408     -
    a model that has nothing to explain with       409     -
    the body, or its number of records, too large  413     -
    the URL too long                               414     -
    another content type or encoding               415     -
    a record that PatientRecord refuses            422     one a field, with a JSON pointer (RFC 6901)
    a table with other columns, or an odd query    422     one a column
    the head too large                             431     -
    a fault of ours                                500     -
    the model has no number for a valid record     500     one a record of a batch
    no model is ready, or too much at once         503     -      with Retry-After
    the service stops (/health/ready alone)        503     -
    the GPU is lost, and only it may answer        503     -      until the process is restarted
    no room on the disk to set a table aside       507     -

An answer to a table that has begun cannot fail so any more: it is cut off, which HTTP tells from an end.
Under /v2 the Open Inference Protocol has an error shape of its own, {"error": "..."}, and what PatientRecord refuses is
400 there. No answer, and no log line, repeats a value that was sent: these are patients.
"""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from service.http.security_headers import DATA
from service.model.device import DeviceLost
from service.records.results import NO_PROBABILITY

LISTED = 100  # errors that an answer lists; `total` counts them all
MEDIA_TYPE = "application/problem+json"
OPEN_INFERENCE = "/v2"  # where the Open Inference Protocol lives
SCHEMA = "#/components/schemas/ProblemDetails"


log = logging.getLogger(__name__)


class FieldError(BaseModel):
    """One thing that is wrong, and where."""

    detail: str = Field(examples=["Serum cholesterol must be a number from 50 to 1000 mg/dl; null if it was not taken"])
    pointer: str = Field(description="JSON pointer into the body that was sent", examples=["/3/chol"])


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = Field(None, description=f"the first {LISTED}")
    total: int | None = Field(None, description="how many errors there are in all")


class Problem(Exception):
    """What a route raises to answer with an error."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        errors: Sequence[FieldError] = (),
        total: int | None = None,
        headers: Mapping[str, str] | None = None,
        fields: Mapping[str, int] | None = None,
    ) -> None:
        """fields: how many records were refused for the sake of each field, for the metrics."""
        super().__init__(detail)
        self.status, self.detail, self.errors, self.total, self.headers = status, detail, errors, total, headers
        self.fields = fields or {}


class ProblemResponse(Response):
    """The problem as HTTP sees it, in the shape that belongs to the path it came by."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        body = ProblemDetails(
            title=problem.status.phrase,
            status=problem.status,
            detail=problem.detail,
            errors=list(problem.errors) or None,
            total=problem.total,
        )
        super().__init__(body.model_dump_json(exclude_none=True), problem.status, problem.headers, MEDIA_TYPE)
        self.raw_headers += DATA

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        path = scope["path"]
        if path != OPEN_INFERENCE and not path.startswith(OPEN_INFERENCE + "/"):
            await super().__call__(scope, receive, send)
            return
        problem = self.problem
        answer = JSONResponse({"error": problem.detail}, problem.status, problem.headers)
        answer.raw_headers += DATA
        await answer(scope, receive, send)


def response(problem: Problem) -> Response:
    """The problem as HTTP sees it."""
    return ProblemResponse(problem)


def install(app: FastAPI) -> None:
    """Make every failure of the app, whoever raises it, a problem+json."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(DeviceLost, _lost)
    app.add_exception_handler(Exception, _fault)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    request.app.state.heart.counts.refused(error.fields)
    return response(error)


async def _http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own: an unknown path, a wrong method."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    allow = (error.headers or {}).get("Allow")
    detail = {
        HTTPStatus.NOT_FOUND: "There is nothing at this path; /docs lists what there is.",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not among this path's methods: {allow}.",
    }.get(status, status.description)
    return response(Problem(status, detail, headers=error.headers))


async def _gone(_request: Request, _error: Exception) -> Response:
    """Nobody is left to read it, but it is no fault of ours either, and must not be logged as one."""
    return response(Problem(HTTPStatus.BAD_REQUEST, "The connection ended before the body did."))


def lost(error: Exception) -> Problem:
    """A DeviceLost as a problem. Waiting does not help, so it names no time to come back."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))


def no_probability(rows: Sequence[int]) -> Problem:
    """The model answers valid records with what is no probability. rows: which of a batch; none for a single one."""
    log.error("the model has no probability for %d valid records", len(rows) or 1)
    errors = [FieldError(pointer=f"/{row}", detail=NO_PROBABILITY) for row in rows[:LISTED]]
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, f"{NO_PROBABILITY}; it has been logged.", errors, len(rows) or None
    )


async def _lost(_request: Request, error: Exception) -> Response:
    return response(lost(error))


async def _fault(_request: Request, _error: Exception) -> Response:
    """A bug. Starlette logs the traceback and says nothing of it to the client; nor do we."""
    return response(Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "A fault of the service; it has been logged."))


def documented(*statuses: HTTPStatus) -> dict[int | str, dict[str, object]]:
    """The `responses` of a route that can fail in these ways, for OpenAPI."""
    return {
        int(status): {"description": status.phrase, "content": {MEDIA_TYPE: {"schema": {"$ref": SCHEMA}}}}
        for status in statuses
    }
