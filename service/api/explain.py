"""POST /explain: why the model answers what it answers, for one patient or a few."""

import asyncio
import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter
from starlette.requests import ClientDisconnect

from patient.record import EXAMPLE
from service.api import json_batch as array
from service.api.predict import FAILURES, RECORD, takes
from service.api.state import State
from service.explain.explanation import explain
from service.http import body
from service.http.body import Values
from service.http.problems import Problem, documented
from service.observe.request_context import scored
from service.records.schema import Explanation

router = APIRouter(tags=["prediction"])

LARGEST = 16  # records in an array
MAX_BODY = LARGEST * 4096  # bytes
SEVERAL = {"type": "array", "items": RECORD, "minItems": 1, "maxItems": LARGEST}
BODY: dict[str, Any] = {"oneOf": [RECORD, SEVERAL]}
ADVICE = "Send the others in further requests."
Answer = Explanation | list[Explanation]
ENCODE = TypeAdapter[Answer](Answer).dump_json


@router.post(
    "/explain",
    response_model=Answer,
    responses={**FAILURES, **documented(HTTPStatus.CONFLICT)},
    openapi_extra=takes(BODY, EXAMPLE),
)
async def reasons(request: Request) -> Response:
    """What each measurement adds to the answer for a patient, and what would change the answer.

    Exact Shapley values of the log-odds beside the background patients in the model file. An array of records, at
    most 16, is answered by an array. **Not medical advice**: it speaks of the model, not of the patient.
    """
    state = State.of(request)
    content = await body.read_json(request.scope, request.receive, min(state.settings.max_body, MAX_BODY))
    several = content.lstrip().startswith(b"[")
    records = await _records(content) if several else [body.one(content)]
    model = state.ready_model()
    if not model.metadata.background:
        detail = f"Model version {model.version} has no background patients to explain with; one trained since has."
        raise Problem(HTTPStatus.CONFLICT, detail)
    answers = []
    async with state.explanations:
        for values in records:
            if await request.is_disconnected():
                raise ClientDisconnect  # nobody is left to read it
            answers.append(await asyncio.to_thread(explain, model, values))
    scored(len(answers), model.version)
    return Response(ENCODE(answers if several else answers[0]), media_type="application/json")


async def _records(content: bytes) -> Sequence[Values]:
    """The values of an array. Raises Problem 400, 413 or 422."""
    rows = await array.read(content, LARGEST, ADVICE)
    return [tuple(None if math.isnan(value) else value for value in row) for row in rows.tolist()]
