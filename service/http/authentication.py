"""Middleware: authenticate requests by API key. Every path needs a key unless it is declared open."""

from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from service.http.api_keys import ApiKeys
from service.http.problems import Problem, ProblemResponse, documented

METRICS = "/metrics"
HEADERS = (b"authorization", b"x-api-key")
CHALLENGE = 'Bearer realm="heart"'
BLANKS = b" \t"  # optional around a header's value, which the HTTP parser does not remove behind it
BEARER = b"bearer"
HOW = "Send one API key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
IsOpen = Callable[[str], bool]  # whether a path needs no key


class AuthenticationMiddleware:
    def __init__(self, app: ASGIApp, keys: ApiKeys, is_open: IsOpen) -> None:
        self.app, self.keys, self.is_open = app, keys, is_open

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Put the key's name into scope["key"], or reject the request."""
        if scope["type"] == "http" and not self.is_open(scope["path"]):
            try:
                scope["key"] = authenticate(self.keys, scope["path"], scope["headers"])
            except Problem as problem:
                return ProblemResponse(problem)(scope, receive, send)
        return self.app(scope, receive, send)


def authenticate(keys: ApiKeys, path: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the name of the key that was sent. Raises Problem 401 and 403.

    Credentials of another scheme are not meant for this service: a proxy may pass on those that it has checked.
    """
    credentials = [_credentials(*header) for header in headers if header[0] in HEADERS]
    sent = _keys(credentials)
    if len(sent) != 1:
        is_other_scheme = bool(credentials) and not sent
        detail = f"{'The scheme of `Authorization` must be Bearer. ' if is_other_scheme else ''}{HOW}"
        raise Problem(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": CHALLENGE})
    key = keys.find(sent[0])
    if key is None:
        challenge = {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'}
        raise Problem(HTTPStatus.UNAUTHORIZED, "Invalid or revoked API key.", headers=challenge)
    if key.scope == "metrics" and path != METRICS:
        raise Problem(HTTPStatus.FORBIDDEN, f"This API key may only read {METRICS}.")
    return key.name


def sent_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the key of a request that `authenticate` has admitted."""
    return _keys([_credentials(*header) for header in headers if header[0] in HEADERS])[0]


def _keys(credentials: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    return [key for scheme, key in credentials if scheme == BEARER]


def _credentials(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Split a header into the scheme, in lower case, and the key. X-API-Key is another way to write Bearer."""
    if name != HEADERS[0]:
        return BEARER, value.strip(BLANKS)
    scheme, _, key = value.strip(BLANKS).partition(b" ")
    return scheme.lower(), key.strip(BLANKS)


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
