"""Endpoints for operators: probes, GET /metrics, and GET /model and /model/card, which describe the serving model."""

import asyncio
from http import HTTPStatus
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from patient.artefact import CARD, ArtefactError, read_start
from service.api.state import AppState
from service.http.problems import Problem, as_problem, busy, documented
from service.model.device import DeviceLost
from service.observe.metrics import WORKERS, WORKERS_READY
from service.records.schema import Ready, Served

router = APIRouter(tags=["health and model"])
PROBES = frozenset(("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"))
NOT_READY = documented(503)
MAX_CARD_BYTES = 2**22


class Live(BaseModel):
    status: str = Field("live", examples=["live"])


@router.get("/health/live")
async def live() -> Live:
    """Whether the process runs. It does not depend on the model, because a restart would not bring one."""
    return Live()


@router.get("/health/ready", responses=NOT_READY)
async def ready(request: Request) -> Ready:
    """Whether the service can score records, and with which model and device.

    503 while any worker process cannot. With a GPU, one record is scored first, because the GPU may have been lost
    since the last request.
    """
    state = AppState.of(request)
    if state.shutdown.stopping:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "The service is stopping.")
    model = state.ready_model()
    try:
        if model.crossover is not None:
            await run_in_threadpool(model.probe)
    except DeviceLost as error:
        state.metrics.set_gauge("ready", 0)
        raise as_problem(error) from None
    now = state.metrics.snapshot()
    workers, ready_workers = int(now.total(WORKERS)), int(now.total(WORKERS_READY))
    if ready_workers < workers:
        raise busy(f"Only {ready_workers} of {workers} worker processes can score records.")
    return Ready(
        model_version=model.version,
        provider=model.provider,
        fallback=model.fallback,
        crossover=model.crossover,
        workers=workers,
    )


@router.get("/metrics", response_class=PlainTextResponse, responses=NOT_READY)
async def metrics(request: Request) -> Response:
    """The metrics of all worker processes, whichever of them receives the request, in Prometheus's text format."""
    from service.observe.prometheus import MEDIA_TYPE, exposition  # imports prometheus-client, which start-up skips

    state = AppState.of(request)
    parts = []
    for part in exposition(state.metrics, state.routes, state.model):
        parts.append(part)
        await asyncio.sleep(0)  # other requests run between two metrics: docs/adr/0013
    return Response(b"".join(parts), media_type=MEDIA_TYPE)


@router.get("/model", responses=NOT_READY)
async def model(request: Request) -> Served:
    """The model file's metadata (fields, training data, flags, scores, libraries) and its digest."""
    serving = AppState.of(request).ready_model()
    return Served(sha256=serving.digest, **serving.metadata.model_dump())


class Markdown(PlainTextResponse):
    media_type = "text/markdown"


@router.get("/model/card", response_class=Markdown, responses=documented(404, 503))
async def card(request: Request) -> Response:
    """The model card as Markdown: what the model is for, how good it is, and its limits."""
    file = AppState.of(request).ready_model().file.with_name(CARD)
    try:
        return Markdown(await run_in_threadpool(_read_card, file))
    except (OSError, ArtefactError):
        raise Problem(HTTPStatus.NOT_FOUND, "This model version has no model card.") from None


def _read_card(file: Path) -> bytes:
    """Read a card. Raises OSError, and ArtefactError for one that is no file of its version's folder."""
    if not file.resolve().is_relative_to(file.parent.resolve()):
        raise ArtefactError("it is a link out of this folder")
    return read_start(file, MAX_CARD_BYTES)
