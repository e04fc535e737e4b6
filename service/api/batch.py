"""POST /predict/batch: a table of patient records in, their results out, in JSON, NDJSON, CSV, Arrow or Parquet."""

import sys
from importlib import import_module
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from patient.record import EXAMPLE
from service.api.predict import FAILURES as PREDICT_FAILURES
from service.api.predict import RECORD
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
            "description": "What to do with invalid rows. `refuse`: reject the table, which is the default except for "
            "NDJSON. `report`: give each of them a null probability and an `error`; the response begins while the body "
            "arrives.",
            "schema": {"type": "string", "enum": ["refuse", "report"]},
        },
        {
            "name": "keep",
            "in": "query",
            "description": "Names of other columns to copy to the response, separated by commas; `*` copies all.",
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
FAILURES = PREDICT_FAILURES | documented(406, 507)


@router.post(
    "/predict/batch",
    response_model=TablePrediction,
    responses=FAILURES | {200: {"content": TABLES}},
    openapi_extra=OPENAPI,
)
async def batch(request: Request) -> Response:
    """The probabilities of heart disease for a table of patients, row by row.

    The body is JSON, NDJSON, CSV, Arrow or Parquet, or a form with such a file; gzip, deflate or zstd may compress it.
    The response has the body's format unless `Accept` asks for another. A table that looks like Kaggle's heart.csv,
    whose codes mean other findings, is refused as a whole.
    """
    # Imported at the first request, in a thread: pyarrow delays neither start-up nor the event loop.
    if "service.api.table_response" not in sys.modules:
        await run_in_threadpool(import_module, "service.api.table_response")
    from service.api.table_response import table_response

    return await table_response(request)
