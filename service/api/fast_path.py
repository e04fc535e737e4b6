"""Records as plain JSON, one or an array, straight from the server's bytes to the model's, in front of FastAPI.

FastAPI documents these routes and would answer them alike (service/routes/ calls the same functions), but spends
several times the work that a record needs. Everything else goes to FastAPI.
"""

from collections.abc import Awaitable, Callable
from functools import lru_cache
from http import HTTPStatus

import msgspec
from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import json_batch as array
from service.api.state import State
from service.http import body
from service.http.authentication import Access
from service.http.concurrency import Limit
from service.http.cors import cors
from service.http.graceful_shutdown import Closing
from service.http.micro_batcher import FULL
from service.http.problems import Problem, lost, response
from service.http.request_log import Watch
from service.http.security_headers import DATA, Headers, Safe
from service.model.device import DeviceLost
from service.observe import log
from service.observe.request_context import CURRENT, scored
from service.records.results import Prediction, missing

SINGLE, BATCH = "/predict", "/predict/batch"
PLAIN = ((b"accept", b"*/*"), (b"accept", b"application/json"))
ENCODE = msgspec.json.Encoder().encode


async def predict(state: State, scope: Scope, receive: Receive) -> bytes:
    """The answer to one record as JSON. Raises Problem."""
    values = body.one(await body.read_json(scope, receive, state.settings.max_body))
    model, probability = await state.runs.submit(values)
    scored(1, model.version)
    threshold = model.metadata.threshold
    return ENCODE(Prediction(probability, probability >= threshold, missing(values), threshold, model.version))


async def predict_batch(state: State, scope: Scope, receive: Receive) -> bytes:
    """The answer to an array of records as JSON. Raises Problem."""
    return await array.answer(state, await body.read_json(scope, receive, state.settings.max_body))


def _way(scope: Scope) -> Callable[[State, Scope, Receive], Awaitable[bytes]] | None:
    """Who answers this request in short, if anybody does."""
    if scope["type"] == "http" and scope["method"] == "POST":
        if scope["path"] == SINGLE:
            return predict
        if scope["path"] == BATCH and not scope["query_string"] and body.JSON in scope["headers"]:
            asked = [header for header in scope["headers"] if header[0] in (b"accept", b"content-encoding")]
            return predict_batch if all(header in PLAIN for header in asked) else None
    return None


class Front:
    """The ASGI application that is served: `app`, with a short way for two paths."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection event."""
        way = _way(scope)
        if not way:
            await self.app(scope, receive, send)
            return
        if way is predict and self.state.runs.full():  # before it is read: whoever is sent away must cost little
            for message in BUSY:
                await send(message)
            return
        try:
            content = await way(self.state, scope, receive)
        except Problem as problem:
            self.state.counts.refused(problem.fields)
            await response(problem)(scope, receive, send)
        except DeviceLost as error:
            await response(lost(error))(scope, receive, send)
        except ClientDisconnect:
            return
        else:
            if not self._whole(content):
                await send({"type": "http.response.start", "status": 200, "headers": _headers(len(content))})
                await send({"type": "http.response.body", "body": content})

    def _whole(self, content: bytes) -> bool:
        """Whether the answer went out in one write, as it can while nobody has another header to add."""
        if self.state.stopping or self.state.settings.cors_origins:
            return False
        request = CURRENT.get()
        return request is not None and request.whole(content)


def stack(app: FastAPI) -> ASGIApp:
    """`app` as it is served: with everything that stands in front of it, the outermost last."""
    state: State = app.state.heart
    layers: ASGIApp = Front(Limit(Safe(app), state.settings.max_requests, state.counts), state)
    if state.keys:
        layers = Access(layers, state.keys)
    if state.settings.cors_origins:
        layers = cors(layers, state.settings.cors_origins)
    return Watch(Closing(layers, state), state, log.access())


def _busy() -> tuple[Message, ...]:
    answer = response(Problem(HTTPStatus.SERVICE_UNAVAILABLE, FULL, headers={"Retry-After": "1"}))
    start = {"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers}
    return start, {"type": "http.response.body", "body": answer.body}


BUSY = _busy()  # made once: it is sent when there is no time to make it


@lru_cache
def _headers(length: int) -> Headers:
    """A tuple: whoever adds to those of one answer cannot add to all."""
    return (b"content-type", b"application/json"), (b"content-length", b"%d" % length), *DATA
