"""create_app(settings): wiring and lifespan, nothing else."""

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline

from patient.record import EXAMPLE, PatientRecord
from service import errors
from service.counts import Counts
from service.predictor import Predictor, load
from service.routes import batch, explain, health, metrics, predict, web
from service.settings import Settings
from service.state import State
from service.streams import Streams

log = logging.getLogger(__name__)


def create_app(settings: Settings, predictor: Predictor | None = None, counts: Counts | None = None) -> FastAPI:
    """The service as an ASGI app. Without a predictor it loads one when it starts; without counts it counts alone."""
    state = State(settings, counts)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        state.model = predictor or load(settings.models, settings.provider, settings.gpu)
        announce(state.model)
        gc.freeze()  # what is loaded stays: no collection need look at it again, for tens of milliseconds each time
        gc.set_threshold(50_000, 20, 20)  # requests leave no cycles: at 700, Python's own, looking for some takes 6 %
        yield
        state.model = None

    app = FastAPIOffline(title="Heart disease", description=ABOUT, version="1", redoc_url=None, lifespan=lifespan)
    app.router.redirect_slashes = False
    app.state.heart = state
    app.state.streams = Streams(settings.max_streams, state.counts)
    app.include_router(predict.router)
    app.include_router(batch.router)
    app.include_router(explain.router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(web.router)
    errors.install(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    return app


ABOUT = """The probability of heart disease from 13 measurements, by a network of 497 parameters, trained on the
Cleveland Clinic data (UCI Heart Disease, CC BY 4.0). **Not a medical device.**

Every error is `application/problem+json` and never repeats a value that was sent."""


def announce(model: Predictor) -> None:
    """Say at start-up what serves, and on what."""
    log.info("model version %s serves on %s", model.version, model.provider)
    if model.fallback:
        log.warning("provider=auto fell back to the CPU: %s", model.fallback)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's schema, and the two models that no route's signature mentions."""
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
        app.openapi_schema = schema
    return app.openapi_schema
