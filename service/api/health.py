"""Probes: is the process alive, is it fit to serve. GET /model says what serves."""

from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from patient.artefact import CARD
from service.api.state import AppState
from service.http.problems import Problem, as_problem, busy, documented
from service.model.device import DeviceLost
from service.records.schema import Ready, Served

router = APIRouter(tags=["health and model"])
PROBES = frozenset(("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"))
NOT_READY = documented(HTTPStatus.SERVICE_UNAVAILABLE)


class Live(BaseModel):
    """The process answers."""

    status: str = Field("live", examples=["live"])


@router.get("/health/live")
async def live() -> Live:
    """Whether the process runs. It never depends on the model: a restart would not bring one."""
    return Live()


@router.get("/health/ready", responses=NOT_READY)
async def ready(request: Request) -> Ready:
    """Whether the service can answer, and with what: not while one of its processes that take requests cannot.

    A GPU answers one record first, because it may be lost while nobody asks.
    """
    state = AppState.of(request)
    if state.shutdown.stopping:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "The service is stopping.")
    model = state.ready_model()
    try:
        if model.crossover is not None:
            await run_in_threadpool(model.probe)
    except DeviceLost as error:
        state.metrics.set_ready(False)
        raise as_problem(error) from None
    workers, able = state.metrics.worker_counts()
    if able < workers:
        raise busy(f"{workers - able} of {workers} worker processes cannot answer.")
    return Ready(
        model_version=model.version,
        provider=model.provider,
        fallback=model.fallback,
        crossover=model.crossover,
        workers=workers,
    )


@router.get("/model", responses=NOT_READY)
async def model(request: Request) -> Served:
    """The metadata that lie in the model file: fields, training data, flags, scores, libraries; and its digest."""
    serves = AppState.of(request).ready_model()
    return Served(sha256=serves.digest, **serves.metadata.model_dump())


class Markdown(PlainTextResponse):
    """Text with marks."""

    media_type = "text/markdown"


@router.get(
    "/model/card",
    response_class=Markdown,
    responses={**NOT_READY, **documented(HTTPStatus.NOT_FOUND)},
)
async def card(request: Request) -> Response:
    """The model card that lies beside the model file, as Markdown: what it is for, how good it is, and its limits."""
    file = AppState.of(request).ready_model().file.with_name(CARD)
    try:
        return Markdown(await run_in_threadpool(file.read_bytes))
    except OSError:
        raise Problem(HTTPStatus.NOT_FOUND, "No model card lies beside this version.") from None
