"""GET /metrics: the metrics of all worker processes, in Prometheus's text format."""

import asyncio
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from service.api.state import AppState
from service.http.problems import documented

router = APIRouter(tags=["health and model"])


@router.get("/metrics", response_class=PlainTextResponse, responses=documented(HTTPStatus.SERVICE_UNAVAILABLE))
async def metrics(request: Request) -> Response:
    """Return the metrics of all worker processes, whichever of them receives the request."""
    from service.observe.prometheus import MEDIA_TYPE, exposition  # imports prometheus-client, which start-up skips

    state = AppState.of(request)
    parts = []
    for part in exposition(state.metrics, state.routes, state.model):
        parts.append(part)
        await asyncio.sleep(0)  # other requests run between two metrics: docs/adr/0013
    return Response(b"".join(parts), media_type=MEDIA_TYPE)
