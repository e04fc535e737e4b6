"""POST /predict, straight from the server's bytes to the model's, in front of FastAPI.

FastAPI documents this route and would answer it alike (service/routes/predict.py calls `predict` too), but spends
several times the work that a request needs. Everything else goes to FastAPI.
"""

import logging
from functools import lru_cache
from http import HTTPStatus

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import body
from service.answers import Prediction, missing
from service.errors import Problem, lost, response
from service.provider import DeviceLost
from service.state import State

PATH = "/predict"
ENCODE = msgspec.json.Encoder().encode

log = logging.getLogger(__name__)


async def predict(state: State, scope: Scope, receive: Receive) -> bytes:
    """The answer to one record as JSON. Raises Problem."""
    values = body.one(await body.read_json(scope, receive, state.settings.max_body))
    model, probability = await state.runs.submit(values)
    threshold = model.metadata.threshold
    return ENCODE(Prediction(probability, probability >= threshold, missing(values), threshold, model.version))


class Front:
    """The ASGI application that is served: `app`, with a short way for one path."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection event."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        try:
            content = await predict(self.state, scope, receive)
        except Problem as problem:
            await response(problem)(scope, receive, send)
        except DeviceLost as error:
            await response(lost(error))(scope, receive, send)
        except ClientDisconnect:
            return
        except Exception:
            log.exception("fault in POST %s", PATH)
            fault = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "A fault of the service; it has been logged.")
            await response(fault)(scope, receive, send)
        else:
            await send(_start(len(content)))
            await send({"type": "http.response.body", "body": content})


@lru_cache
def _start(length: int) -> Message:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
    return {"type": "http.response.start", "status": 200, "headers": headers}
