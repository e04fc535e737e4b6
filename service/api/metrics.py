"""GET /metrics: what the service has done, all its processes together, as Prometheus reads it."""

from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from service.api.state import AppState
from service.http.problems import documented

router = APIRouter(tags=["health and model"])


@router.get("/metrics", response_class=PlainTextResponse, responses=documented(HTTPStatus.SERVICE_UNAVAILABLE))
async def metrics(request: Request) -> Response:
    """Counts over all worker processes, whichever of them answers."""
    from service.observe.prometheus import MEDIA_TYPE, exposition  # when it is asked for: start-up need not wait for it

    state = AppState.of(request)
    return Response(exposition(state.metrics, state.routes, state.model), media_type=MEDIA_TYPE)
