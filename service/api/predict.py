"""POST /predict: the probability for one JSON record; and OpenAPI parts that other routes share."""

from collections.abc import Mapping

from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from patient.record import EXAMPLE
from service.api.state import AppState
from service.http.body import RECORD_ENCODINGS, content_encoding, decompress, read_json
from service.http.micro_batcher import QUEUE_FULL
from service.http.problems import busy, documented
from service.observe.request_context import record_scored
from service.records.decoding import MAX_RECORD_BYTES, decode_record
from service.records.results import record_result
from service.records.schema import Prediction

router = APIRouter(tags=["prediction"])

FAILURES = documented(400, 408, 413, 415, 422, 500, 503)


def json_body(schema: Mapping[str, object], example: object) -> dict[str, object]:
    """OpenAPI of a JSON body, for handlers that read it themselves."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


RECORD = {"$ref": "#/components/schemas/PatientRecord"}


@router.post("/predict", response_model=Prediction, responses=FAILURES, openapi_extra=json_body(RECORD, EXAMPLE))
async def predict(request: Request) -> Response:
    """The probability of heart disease for one patient.

    A measurement that was not taken is null.
    """
    state = AppState.of(request)
    if state.batcher.is_full():  # before its body is read, to save the work
        raise busy(QUEUE_FULL)
    values = decode_record(await read_record(state, request.scope, request.receive))
    model, probability = await state.batcher.submit(values)
    record_scored(1, model.version)
    content = record_result(probability, values, model.metadata.threshold, model.version)
    return Response(content, media_type="application/json")


async def read_record(state: AppState, scope: Scope, receive: Receive) -> bytes:
    """Read a JSON body of at most MAX_RECORD_BYTES, compressed or not. Raises RecordError and Problem 413 and 415."""
    limit = min(state.settings.max_body, MAX_RECORD_BYTES)
    if b"content-encoding" not in dict(scope["headers"]):
        return await read_json(scope, receive, limit)
    encoding = content_encoding(Headers(scope=scope), RECORD_ENCODINGS)
    content = await read_json(scope, receive, limit)
    return decompress(content, encoding, limit) if encoding else content
