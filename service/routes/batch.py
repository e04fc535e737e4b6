"""POST /predict/batch: a table of patients in, its answers out, in the formats that people have."""

import io
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from patient.record import EXAMPLE
from service import array, body
from service.asked import FORM, ON_ERROR, Asked, asked
from service.errors import documented
from service.routes.predict import FAILURES, RECORD, BatchPrediction
from service.scoring import Scoring, TableResponse, problem
from service.state import State
from service.tables.faults import TableError
from service.tables.formats import FORMATS, JSON
from service.tables.source import Limits, opened
from service.tables.spool import contents

router = APIRouter(tags=["prediction"])

BINARY = {"schema": {"type": "string", "format": "binary"}}
TABLES = {format_.media_type: BINARY for format_ in FORMATS if format_ is not JSON}
RECORDS = {"type": "array", "items": RECORD, "minItems": 1}
FILE = {"schema": {"type": "object", "properties": {"file": BINARY["schema"]}, "required": ["file"]}}
OPENAPI: dict[str, Any] = {
    "parameters": [
        {
            "name": "on_error",
            "in": "query",
            "description": "refuse: one bad row refuses the table (the default, except for NDJSON); "
            "report: bad rows are answered in place, with a null probability and an `error`, and the answer begins "
            "while the body comes",
            "schema": {"type": "string", "enum": [*ON_ERROR]},
        },
        {
            "name": "keep",
            "in": "query",
            "description": "names of other columns to pass through unchanged, parted by commas; * is all of them",
            "schema": {"type": "string"},
            "example": "mrn,visit",
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            JSON.media_type: {"schema": RECORDS, "example": [EXAMPLE, {**EXAMPLE, "ca": None}]},
            **TABLES,
            FORM: FILE,
        },
    },
}
MORE = documented(HTTPStatus.NOT_ACCEPTABLE, HTTPStatus.REQUEST_TIMEOUT)


@router.post(
    "/predict/batch",
    response_model=BatchPrediction,
    responses={**FAILURES, **MORE, 200: {"content": TABLES}},
    openapi_extra=OPENAPI,
)
async def batch(request: Request) -> Response:
    """The probabilities for a table of patients, row for row.

    JSON, NDJSON, CSV, Arrow and Parquet in and out, also as a form's file, and compressed by gzip or zstd. `Accept`
    names the type of the answer: by default it is that of the body.
    """
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
        content = await run_in_threadpool(lambda: b"".join(contents(source)))
    return Response(await array.answer(state, content), media_type="application/json")
