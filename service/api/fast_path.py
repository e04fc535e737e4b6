"""Middleware: handle plain JSON predictions, for one record or an array, without FastAPI.

FastAPI documents these routes, and its handlers call the same functions, but its overhead is several times the work
that a record needs: docs/adr/0005. All other requests go to FastAPI.
"""

from collections.abc import Awaitable, Callable
from functools import lru_cache

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.json_batch import predict_batch
from service.api.predict import predict_record
from service.api.state import AppState
from service.http.body import JSON
from service.http.micro_batcher import QUEUE_FULL
from service.http.problems import Problem, ProblemResponse, busy, error_response
from service.http.request_log import Exchange
from service.http.security_headers import DATA_HEADERS, Headers
from service.model.device import DeviceLost
from service.observe.request_context import CURRENT
from service.records.errors import RecordError

SINGLE, BATCH = "/predict", "/predict/batch"
PLAIN = ((b"accept", b"*/*"), (b"accept", b"application/json"))
Handler = Callable[[AppState, Scope, Receive], Awaitable[bytes]]

_overload = ProblemResponse(busy(QUEUE_FULL))  # made once: it is sent when there is no time to make it
OVERLOADED: tuple[Message, ...] = (
    {"type": "http.response.start", "status": _overload.status_code, "headers": _overload.raw_headers},
    {"type": "http.response.body", "body": _overload.body},
)


def _handler(scope: Scope) -> Handler | None:
    if scope["type"] == "http" and scope["method"] == "POST":
        if scope["path"] == SINGLE:
            return predict_record
        if scope["path"] == BATCH and not scope["query_string"] and JSON in scope["headers"]:
            negotiated = [header for header in scope["headers"] if header[0] in (b"accept", b"content-encoding")]
            return predict_batch if all(header in PLAIN for header in negotiated) else None
    return None


class FastPathMiddleware:
    def __init__(self, app: ASGIApp, state: AppState) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = _handler(scope)
        if not handler:
            await self.app(scope, receive, send)
            return
        if handler is predict_record and self.state.batcher.is_full():  # before its body is read, to save the work
            for message in OVERLOADED:
                await send(message)
            return
        try:
            content = await handler(self.state, scope, receive)
        except (Problem, RecordError, DeviceLost) as error:
            await error_response(error, self.state.metrics)(scope, receive, send)
        except ClientDisconnect:
            return
        else:
            if not (self.state.shutdown.stopping or self.state.settings.cors_origins):  # no middleware adds headers
                exchange = CURRENT.get()
                if isinstance(exchange, Exchange) and exchange.send_whole(content):
                    return
            await send({"type": "http.response.start", "status": 200, "headers": _headers(len(content))})
            await send({"type": "http.response.body", "body": content})


@lru_cache
def _headers(length: int) -> Headers:
    """A tuple, so that nothing can be added to the headers of all responses at once."""
    return (b"content-type", b"application/json"), (b"content-length", b"%d" % length), *DATA_HEADERS
