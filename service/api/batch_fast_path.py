"""Middleware: score plain JSON arrays without FastAPI, whose overhead is a sixth of their time.

FastAPI documents the route, and its handler calls the same function. All other requests go to FastAPI.
"""

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.json_batch import predict_batch
from service.api.state import AppState
from service.http.body import JSON
from service.http.problems import Problem, error_response
from service.http.security_headers import with_security_headers
from service.model.device import DeviceLost
from service.records.errors import RecordError

PATH = "/predict/batch"
PLAIN = ((b"accept", b"*/*"), (b"accept", b"application/json"))


class BatchFastPathMiddleware:
    def __init__(self, app: ASGIApp, state: AppState) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_plain(scope):
            await self.app(scope, receive, send)
            return
        try:
            response = Response(await predict_batch(self.state, scope, receive), media_type="application/json")
        except (Problem, RecordError, DeviceLost) as error:
            response = error_response(error, self.state.metrics)
        except ClientDisconnect:
            return
        response.raw_headers = with_security_headers(response.raw_headers)
        await response(scope, receive, send)


def _is_plain(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST" or scope["query_string"]:
        return False
    negotiated = [header for header in scope["headers"] if header[0] in (b"accept", b"content-encoding")]
    return JSON in scope["headers"] and all(header in PLAIN for header in negotiated)
