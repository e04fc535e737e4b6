"""What a request needs a key for, in front of everything else: whatever is not named here as open is closed."""

from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.web import FILES
from service.http.api_keys import Keys
from service.http.problems import Problem, documented, response

PROBES = frozenset(("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"))
STATIC = "/static-offline-docs/"
OPEN = PROBES | {"/docs", "/docs/oauth2-redirect", "/openapi.json", *FILES}  # they say what anybody may know
METRICS = "/metrics"
HEADERS = (b"authorization", b"x-api-key")
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="heart"'}


class Access:
    """An ASGI layer that lets nobody through who has no key."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app, self.keys = app, keys

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One connection event. A good key's name is left in scope["key"]."""
        if scope["type"] == "http" and not is_open(scope["path"]):
            try:
                scope["key"] = self._admitted(scope)
            except Problem as problem:
                return response(problem)(scope, receive, send)
        return self.app(scope, receive, send)

    def _admitted(self, scope: Scope) -> str:
        """The name of the key that was sent. Raises Problem 401 and 403."""
        sent = [header for header in scope["headers"] if header[0] in HEADERS]
        if len(sent) != 1:
            wanted = "Send one key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
            raise Problem(HTTPStatus.UNAUTHORIZED, wanted, headers=CHALLENGE)
        name, value = sent[0]
        if name == HEADERS[0]:
            kind, _, value = value.partition(b" ")
            value = value.strip() if kind.lower() == b"bearer" else b""
        key = self.keys.find(value)
        if key is None:
            challenge = {"WWW-Authenticate": CHALLENGE["WWW-Authenticate"] + ', error="invalid_token"'}
            raise Problem(HTTPStatus.UNAUTHORIZED, "This key is not good, or not any more.", headers=challenge)
        if key.scope == "metrics" and scope["path"] != METRICS:
            raise Problem(HTTPStatus.FORBIDDEN, f"This key may read {METRICS} and nothing else.")
        return key.name


def describe(schema: dict[str, Any]) -> None:
    """Say in an OpenAPI document which requests need a key, and how it is sent."""
    schema["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if not is_open(path):
                operation["security"] = [{"bearer": []}, {"header": []}]
                refusals = documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
                operation["responses"] |= {str(status): response for status, response in refusals.items()}


def is_open(path: str) -> bool:
    """Whether no key is needed."""
    return path in OPEN or path.startswith(STATIC)
