"""Middleware: cross-origin requests from the allowed origins, with an API key but never with the browser's cookies."""

from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from service.http.problems import Problem, ProblemResponse

METHODS = ("GET", "HEAD", "POST")
REQUEST_HEADERS = (
    *("Accept", "Authorization", "Content-Encoding", "Content-Type", "X-API-Key", "X-Request-ID"),
    *("traceparent", "tracestate"),  # W3C Trace Context: browsers' OpenTelemetry sends them
)
RESPONSE_HEADERS = ("Retry-After", "X-Model-Version", "X-Request-ID", "X-Table-Notes", "X-Threshold")


class CrossOriginMiddleware(CORSMiddleware):
    """Starlette's, except that a refused preflight request is a problem like every other error."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app, origins, allow_methods=METHODS, allow_headers=REQUEST_HEADERS, expose_headers=RESPONSE_HEADERS
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code == HTTPStatus.OK:
            return response
        refused = bytes(response.body).decode().removeprefix("Disallowed CORS ").replace(", ", " and ")
        detail = (
            f"Not allowed across origins: the request's {refused}. Allowed are the origins in --cors-origins, "
            f"the methods {', '.join(METHODS)} and the headers {', '.join(REQUEST_HEADERS)}."
        )
        kept = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        return ProblemResponse(Problem(HTTPStatus.BAD_REQUEST, detail, headers=kept))
