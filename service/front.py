"""Records as plain JSON, one or an array, straight from the server's bytes to the model's, in front of FastAPI.

FastAPI documents these routes and would answer them alike (service/routes/ calls the same functions), but spends
several times the work that a record needs. Everything else goes to FastAPI.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache
from http import HTTPStatus

import msgspec
from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import array, body
from service.answers import Prediction, missing
from service.drain import Closing
from service.errors import Problem, lost, response
from service.provider import DeviceLost
from service.runs import FULL
from service.state import State

SINGLE, BATCH = "/predict", "/predict/batch"
PLAIN = ((b"accept", b"*/*"), (b"accept", b"application/json"))
ENCODE = msgspec.json.Encoder().encode

log = logging.getLogger(__name__)


async def predict(state: State, scope: Scope, receive: Receive) -> bytes:
    """The answer to one record as JSON. Raises Problem."""
    values = body.one(await body.read_json(scope, receive, state.settings.max_body))
    model, probability = await state.runs.submit(values)
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
            await response(problem)(scope, receive, send)
        except DeviceLost as error:
            await response(lost(error))(scope, receive, send)
        except ClientDisconnect:
            return
        except Exception:
            log.exception("fault in POST %s", scope["path"])
            fault = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "A fault of the service; it has been logged.")
            await response(fault)(scope, receive, send)
        else:
            await send(_start(len(content)))
            await send({"type": "http.response.body", "body": content})


def stack(app: FastAPI) -> ASGIApp:
    """`app` as it is served: with everything that stands in front of it, the outermost first."""
    state: State = app.state.heart
    return Closing(Front(app, state), state)


def _busy() -> tuple[Message, ...]:
    answer = response(Problem(HTTPStatus.SERVICE_UNAVAILABLE, FULL, headers={"Retry-After": "1"}))
    start = {"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers}
    return start, {"type": "http.response.body", "body": answer.body}


BUSY = _busy()  # made once: it is sent when there is no time to make it


@lru_cache
def _start(length: int) -> Message:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
    return {"type": "http.response.start", "status": 200, "headers": headers}
