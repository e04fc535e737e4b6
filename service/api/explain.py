"""POST /explain: Shapley values and counterfactuals for one record or a few."""

import asyncio
import math
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter
from starlette.requests import ClientDisconnect

from patient.record import EXAMPLE
from service.api.json_batch import in_parts
from service.api.predict import FAILURES, RECORD, json_body, read_record
from service.api.state import AppState
from service.explain.explanation import explain
from service.http.fairness import client_of
from service.http.problems import Problem, documented
from service.observe.request_context import record_scored
from service.records.decoding import Values, decode_batch, decode_record, to_utf8
from service.records.schema import Explanation

router = APIRouter(tags=["prediction"])

MAX_RECORDS = 16  # in an array
BODY = {"oneOf": [RECORD, {"type": "array", "items": RECORD, "minItems": 1, "maxItems": MAX_RECORDS}]}
Result = Explanation | list[Explanation]
ENCODE = TypeAdapter[Result](Result).dump_json


@router.post(
    "/explain", response_model=Result, responses=FAILURES | documented(409), openapi_extra=json_body(BODY, EXAMPLE)
)
async def explain_records(request: Request) -> Response:
    """How much each measurement contributes to a patient's result, and which other values would change it.

    Contributions are exact Shapley values of the log-odds, relative to the background patients in the model file.
    The body is one record or an array of at most 16. **Not medical advice**: an explanation describes the model, not
    the patient.
    """
    state = AppState.of(request)
    content = to_utf8(await read_record(state, request.scope, request.receive))
    is_array = content.lstrip().startswith(b"[")
    if is_array:
        rows = await in_parts(decode_batch(content, MAX_RECORDS, "Send the others in further requests."))
        records: list[Values] = [tuple(None if math.isnan(value) else value for value in row) for row in rows.tolist()]
    else:
        records = [decode_record(content)]
    model = state.ready_model()
    if not model.metadata.background:
        detail = f"Model version {model.version} has no background patients, which explanations need."
        raise Problem(HTTPStatus.CONFLICT, detail)
    explanations = []
    async with state.explanations.held_by(client_of(request.scope)):
        for values in records:
            if await request.is_disconnected():
                raise ClientDisconnect
            explanations.append(await asyncio.to_thread(explain, model, values))
    record_scored(len(explanations), model.version)
    return Response(ENCODE(explanations if is_array else explanations[0]), media_type="application/json")
