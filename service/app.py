"""Create the ASGI app: routes, lifespan and middleware."""

import asyncio
import gc
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from itertools import chain
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

from patient.record import EXAMPLE, PatientRecord
from service.api import batch, explain, health, predict, web
from service.api.batch_fast_path import BatchFastPathMiddleware
from service.api.state import AppState
from service.api.v2 import routes as v2
from service.http import fast_path, problems
from service.http.authentication import AuthenticationMiddleware, describe_authentication
from service.http.cors import CrossOriginMiddleware
from service.http.cross_site import CrossSiteMiddleware
from service.http.fast_path import FastPath
from service.http.framing import FramingMiddleware
from service.http.graceful_shutdown import CloseConnectionsMiddleware
from service.http.hosts import accepted_hosts
from service.http.limits import ConcurrencyLimitMiddleware
from service.http.path_prefix import PathPrefixMiddleware
from service.http.request_log import RequestLogMiddleware, route_templates
from service.http.security_headers import SecurityHeadersMiddleware
from service.model.predictor import Predictor
from service.model.registry import ModelRegistry, polling
from service.observe import log
from service.observe.metrics import Metrics
from service.settings import Settings

ABOUT = """The probability of heart disease from 13 measurements, by a network of 497 parameters, trained on the
Cleveland Clinic data (UCI Heart Disease, CC BY 4.0). **Not a medical device.**

Every error is `application/problem+json` and never repeats a value that was sent."""
OPEN_PATHS = health.PROBES | {"/docs", "/docs/oauth2-redirect", "/openapi.json", *web.PAGES}
OPEN_FOLDERS = (web.FOLDER, "/static-offline-docs/")


def create_app(
    settings: Settings, model: Predictor | ModelRegistry | None = None, metrics_: Metrics | None = None
) -> FastAPI:
    """Create the service as an ASGI app.

    model: a fixed predictor, or the registry of versions; by default a registry of the settings' model folder
    metrics_: by default this process's own
    """
    state = AppState(settings, metrics_ or Metrics())
    fixed = model if isinstance(model, Predictor) else None
    registry = model if isinstance(model, ModelRegistry) else ModelRegistry(settings, state.metrics.record_reload)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        state.serve(fixed or registry.model or registry.start())
        gc.freeze()  # what is loaded stays: collections need not look at it again, for tens of milliseconds each
        gc.set_threshold(50_000, 20, 20)  # requests leave no cycles: at 700, Python's default, the search takes 6 %
        keys = asyncio.create_task(state.keys.watch()) if state.keys else None
        with state.shutdown.handling_sigterm():
            async with nullcontext() if fixed else polling(registry, state.serve):
                yield {"fast_path": state.fast_path}
        if keys:
            keys.cancel()
        state.workers.close()
        state.model = None
        state.metrics.set_model(None)
        log.flush()

    app = FastAPIOffline(title="Heart disease", description=ABOUT, version="1", redoc_url=None, lifespan=lifespan)
    app.router.redirect_slashes = False
    app.state.heart = state
    for module in (predict, batch, explain, v2, health, web):
        app.include_router(module.router)
    problems.install(app, state.metrics)
    state.routes = route_templates(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # as FastAPI's documentation extends it
    return app


def with_middleware(app: FastAPI) -> ASGIApp:
    """Return `app` as it is served, behind its middleware; the outermost comes last."""
    state: AppState = app.state.heart
    settings = state.settings
    limited = ConcurrencyLimitMiddleware(
        SecurityHeadersMiddleware(app), settings.max_requests, state.metrics, health.PROBES
    )
    served: ASGIApp = BatchFastPathMiddleware(limited, state)
    if state.keys:
        served = AuthenticationMiddleware(served, state.keys, is_open)
    if settings.cors_origins:
        served = CrossOriginMiddleware(served, settings.cors_origins)
    elif accepted_hosts(settings) == ():  # on this machine, without keys
        served = CrossSiteMiddleware(served)
    served = FramingMiddleware(
        CloseConnectionsMiddleware(served, state.shutdown), settings.max_spool, settings.max_stall
    )
    if settings.root_path or settings.trust_forwarded_prefix:
        served = PathPrefixMiddleware(served, settings.root_path, settings.trust_forwarded_prefix)
    log.count_drops(state.metrics.record_log_dropped)
    logged = RequestLogMiddleware(served, state.routes, state.metrics, log.access_log())
    if not settings.cors_origins:
        arguments = state.batcher, state.metrics, logged.access_log, state.keys, state.shutdown
        state.fast_path = FastPath(settings, *arguments, logged.places[fast_path.PATH])
    return logged


def is_open(path: str) -> bool:
    """Whether a path needs no API key: probes, documentation and the web page."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return FastAPI's OpenAPI schema, with models that no signature mentions, and authentication if it is required."""
    state: AppState = app.state.heart
    if not app.openapi_schema:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for route in chain(predict.router.routes, batch.router.routes, explain.router.routes):
            if isinstance(route, APIRoute) and route.openapi_extra:  # FastAPI drops the nulls from its examples
                schema["paths"][route.path]["post"] |= route.openapi_extra
        template = "#/components/schemas/{model}"
        for model in (PatientRecord, problems.ProblemDetails):
            own = model.model_json_schema(ref_template=template)
            schema["components"]["schemas"] |= own.pop("$defs", {}) | {model.__name__: own}
        schema["components"]["schemas"]["PatientRecord"]["examples"] = [EXAMPLE]  # Pydantic sorts its keys
        if state.keys:
            describe_authentication(schema, is_open)
        if prefix := "." if state.settings.trust_forwarded_prefix else state.settings.root_path:
            schema["servers"] = [{"url": prefix}]  # a relative one counts from the document
        app.openapi_schema = schema
    return app.openapi_schema
