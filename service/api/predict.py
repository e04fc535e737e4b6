"""POST /predict: the probability for one JSON record; and OpenAPI parts that other routes share."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from patient.record import EXAMPLE
from service.api import fast_path
from service.api.state import AppState
from service.http.problems import documented
from service.records.schema import Prediction

router = APIRouter(tags=["prediction"])

FAILURES = documented(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)


def json_body(schema: Mapping[str, object], example: object) -> dict[str, object]:
    """OpenAPI of a JSON body, for handlers that read it themselves."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


RECORD = {"$ref": "#/components/schemas/PatientRecord"}


@router.post("/predict", response_model=Prediction, responses=FAILURES, openapi_extra=json_body(RECORD, EXAMPLE))
async def predict(request: Request) -> Response:
    """The probability of heart disease for one patient.

    A measurement that was not taken is null.
    """
    content = await fast_path.predict(AppState.of(request), request.scope, request.receive)
    return Response(content, media_type="application/json")
