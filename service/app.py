"""create_app(settings): wiring and lifespan, nothing else."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from itertools import chain
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline

from patient.record import EXAMPLE, PatientRecord
from service.api import batch, explain, health, metrics, predict, web
from service.api.state import State
from service.api.v2 import routes as inference
from service.http import authentication as access
from service.http import problems as errors
from service.http.graceful_shutdown import drained
from service.http.request_log import routes
from service.http.streams import Streams
from service.model.predictor import Predictor
from service.model.registry import Versions, watched
from service.observe import log as log_lines
from service.observe.metrics import Counts
from service.settings import Settings


def create_app(settings: Settings, model: Predictor | Versions | None = None, counts: Counts | None = None) -> FastAPI:
    """The service as an ASGI app. A predictor serves come what may; of versions, whichever is to serve at the time.

    Without either these are the versions that the settings name; without counts it counts alone.
    """
    fixed = model if isinstance(model, Predictor) else None
    versions = model if isinstance(model, Versions) else Versions(settings, counts or Counts())
    state = State(settings, counts or versions.counts)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        state.serve(fixed or versions.model or versions.start())
        gc.freeze()  # what is loaded stays: no collection need look at it again, for tens of milliseconds each time
        gc.set_threshold(50_000, 20, 20)  # requests leave no cycles: at 700, Python's own, looking for some takes 6 %
        watch = asyncio.create_task(state.keys.watch()) if state.keys else None
        with drained(state):
            async with nullcontext() if fixed else watched(versions, state):
                yield
        if watch:
            watch.cancel()
        state.model = None
        log_lines.flush()

    app = FastAPIOffline(title="Heart disease", description=ABOUT, version="1", redoc_url=None, lifespan=lifespan)
    app.router.redirect_slashes = False
    app.state.heart = state
    app.state.streams = Streams(settings.max_streams, state.counts)
    app.include_router(predict.router)
    app.include_router(batch.router)
    app.include_router(explain.router)
    app.include_router(inference.router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(web.router)
    errors.install(app)
    state.routes = routes(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    return app


ABOUT = """The probability of heart disease from 13 measurements, by a network of 497 parameters, trained on the
Cleveland Clinic data (UCI Heart Disease, CC BY 4.0). **Not a medical device.**

Every error is `application/problem+json` and never repeats a value that was sent."""


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's schema, the two models that no route's signature mentions, and the keys if any are asked for."""
    state: State = app.state.heart
    if not app.openapi_schema:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for route in chain(predict.router.routes, batch.router.routes, explain.router.routes):
            if isinstance(route, APIRoute) and route.openapi_extra:  # FastAPI has dropped the nulls from its examples
                schema["paths"][route.path]["post"] |= route.openapi_extra
        template = "#/components/schemas/{model}"
        for model in (PatientRecord, errors.ProblemDetails):
            own = model.model_json_schema(ref_template=template)
            schema["components"]["schemas"] |= own.pop("$defs", {}) | {model.__name__: own}
        schema["components"]["schemas"]["PatientRecord"]["examples"] = [EXAMPLE]  # Pydantic sorts its keys
        if state.keys:
            access.describe(schema)
        app.openapi_schema = schema
    return app.openapi_schema
