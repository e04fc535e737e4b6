"""POST /predict/batch: a table of patients in, its answers out, in the formats that people have."""

import sys
from http import HTTPStatus
from importlib import import_module
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from patient.record import EXAMPLE
from service.api.predict import FAILURES, RECORD
from service.http.problems import documented
from service.records.schema import TablePrediction

router = APIRouter(tags=["prediction"])

BINARY = {"schema": {"type": "string", "format": "binary"}}
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
TABLES = dict.fromkeys(("application/x-ndjson", "text/csv", ARROW, PARQUET), BINARY)
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
            "schema": {"type": "string", "enum": ["refuse", "report"]},
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
            "application/json": {"schema": RECORDS, "example": [EXAMPLE, {**EXAMPLE, "ca": None}]},
            **TABLES,
            "multipart/form-data": FILE,
        },
    },
}
MORE = documented(HTTPStatus.NOT_ACCEPTABLE, HTTPStatus.INSUFFICIENT_STORAGE)


@router.post(
    "/predict/batch",
    response_model=TablePrediction,
    responses={**FAILURES, **MORE, 200: {"content": TABLES}},
    openapi_extra=OPENAPI,
)
async def batch(request: Request) -> Response:
    """The probabilities for a table of patients, row for row.

    JSON, NDJSON, CSV, Arrow and Parquet in and out, also as a form's file, and compressed by gzip or zstd. `Accept`
    names the type of the answer: by default it is that of the body.
    """
    # pyarrow is imported when it is needed: neither start-up nor the event loop need wait for it.
    if "service.api.table_response" not in sys.modules:
        await run_in_threadpool(import_module, "service.api.table_response")
    from service.api.table_response import table_response

    return await table_response(request)
