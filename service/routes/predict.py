"""POST /predict: a patient record as JSON in, a probability as JSON out; and what its answers look like."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from patient.record import EXAMPLE
from service import front
from service.errors import documented
from service.state import State

router = APIRouter(tags=["prediction"])


class Answer(BaseModel):
    """What the model says of one patient."""

    probability: float = Field(ge=0, le=1, description="of heart disease", examples=[0.0731])
    heart_disease: bool = Field(description="whether the probability reaches the threshold", examples=[False])
    missing: list[str] = Field(description="fields that were null", examples=[["ca"]])


class Prediction(Answer):
    """The answer to one record."""

    model_config = ConfigDict(protected_namespaces=())

    threshold: float = Field(description="the model's decision threshold", examples=[0.5])
    model_version: str = Field(description="the version that answered", examples=["1"])


class RowAnswer(BaseModel):
    """The answer to one row of a table. With `on_error=report` a bad row has nulls, and says why."""

    probability: float | None = Field(ge=0, le=1, description="of heart disease", examples=[0.0731])
    heart_disease: bool | None = Field(description="whether the probability reaches the threshold", examples=[False])
    missing: list[str] | None = Field(description="fields that were null", examples=[["ca"]])
    error: str | None = Field(
        None, description="what is wrong with the row; only with `on_error=report`", examples=[None]
    )


class BatchPrediction(BaseModel):
    """The answers to a batch, in the order sent."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str = Field(description="the version that answered", examples=["1"])
    threshold: float = Field(description="the model's decision threshold", examples=[0.5])
    predictions: list[RowAnswer]


FAILURES = documented(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)


def takes(schema: Mapping[str, object], example: object) -> dict[str, object]:
    """OpenAPI of a JSON body that the route reads by itself."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


RECORD = {"$ref": "#/components/schemas/PatientRecord"}


@router.post("/predict", response_model=Prediction, responses=FAILURES, openapi_extra=takes(RECORD, EXAMPLE))
async def predict(request: Request) -> Response:
    """The probability of heart disease for one patient.

    A measurement that was not taken is null.
    """
    content = await front.predict(State.of(request), request.scope, request.receive)
    return Response(content, media_type="application/json")
