"""A request to /predict/batch on its way: what it asks, and who answers it."""

import asyncio
import io

from fastapi import Request, Response

from service.api import json_batch as array
from service.api.state import State
from service.api.table_request import Asked, asked
from service.api.table_response import Scoring, TableResponse, problem
from service.http import body
from service.tables.errors import TableError
from service.tables.formats import JSON
from service.tables.source import Limits, opened
from service.tables.spool import contents


async def answer(request: Request) -> Response:
    """What is answered, or what will answer while the body comes. Raises Problem."""
    state = State.of(request)
    try:
        wanted = asked(request)
        came = wanted.format
        if came is JSON and wanted.answer(JSON) is JSON and not wanted.keep and not wanted.reports(JSON):
            return await _array(request, state, wanted)
    except TableError as error:
        raise problem(error) from None
    return TableResponse(Scoring(wanted, state), request.app.state.streams)


async def _array(request: Request, state: State, wanted: Asked) -> Response:
    """Small and held as a whole, JSON has a way of its own. Raises Problem and TableError."""
    limit = state.settings.max_body
    content = await body.read_json(request.scope, request.receive, limit)
    if wanted.packing:
        limits = Limits(limit, limit, ratio=state.settings.max_ratio)
        source = opened(io.BytesIO(content), wanted.packing, limits)
        content = await asyncio.to_thread(b"".join, contents(source))
    return Response(await array.answer(state, content), media_type="application/json")
