"""Middleware: authenticate requests by API key. Every path needs a key unless it is declared open."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from service.http.api_keys import ApiKeys
from service.http.problems import Problem, ProblemResponse, documented

METRICS = "/metrics"
HEADERS = (b"authorization", b"x-api-key")
CHALLENGE = 'Bearer realm="heart"'
IsOpen = Callable[[str], bool]  # whether a path needs no key


class AuthenticationMiddleware:
    def __init__(self, app: ASGIApp, keys: ApiKeys, is_open: IsOpen) -> None:
        self.app, self.keys, self.is_open = app, keys, is_open

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Put the key's name into scope["key"], or reject the request."""
        if scope["type"] == "http" and not self.is_open(scope["path"]):
            try:
                scope["key"] = self._authenticate(scope)
            except Problem as problem:
                return ProblemResponse(problem)(scope, receive, send)
        return self.app(scope, receive, send)

    def _authenticate(self, scope: Scope) -> str:
        """Return the name of the key that was sent. Raises Problem 401 and 403."""
        sent = [header for header in scope["headers"] if header[0] in HEADERS]
        if len(sent) != 1:
            detail = "Send one API key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
            raise Problem(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": CHALLENGE})
        name, value = sent[0]
        if name == HEADERS[0]:
            kind, _, value = value.partition(b" ")
            value = value.strip() if kind.lower() == b"bearer" else b""
        key = self.keys.find(value)
        if key is None:
            headers = {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'}
            raise Problem(HTTPStatus.UNAUTHORIZED, "Invalid or revoked API key.", headers=headers)
        if key.scope == "metrics" and scope["path"] != METRICS:
            raise Problem(HTTPStatus.FORBIDDEN, f"This API key may only read {METRICS}.")
        return key.name


def describe_authentication(schema: dict[str, Any], is_open: IsOpen) -> None:
    """Say in an OpenAPI document which requests need a key, and how it is sent."""
    schema["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if not is_open(path):
                operation["security"] = [{"bearer": []}, {"header": []}]
                refusals = documented(401, 403)
                operation["responses"] |= {str(status): response for status, response in refusals.items()}
