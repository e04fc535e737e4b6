"""Middleware: refuse requests that a page of another site makes a browser send to a service on this machine.

A form, or a fetch of a simple media type, is sent without asking the service first. The page cannot read the response,
but it could keep the service busy. Browsers say in Sec-Fetch-Site where a request comes from; other clients send none.
"""

from collections.abc import Awaitable
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from service.http.problems import Problem, ProblemResponse

CROSS_SITE = (b"sec-fetch-site", b"cross-site")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
REFUSED = ProblemResponse(
    Problem(HTTPStatus.FORBIDDEN, "A page of another site sent this request; --cors-origins lists those that may.")
)


class CrossSiteMiddleware:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS and CROSS_SITE in scope["headers"]:
            return REFUSED(scope, receive, send)
        return self.app(scope, receive, send)
