"""POST /predict and POST /predict/batch: patient records as JSON in, probabilities as JSON out."""

import json
from collections.abc import Mapping
from http import HTTPStatus

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from patient.encoding import as_rows
from patient.record import EXAMPLE, PatientRecord
from service import body, front
from service.errors import documented
from service.predictor import Predictor
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


class BatchPrediction(BaseModel):
    """The answers to a batch, in the order sent."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str = Field(description="the version that answered", examples=["1"])
    threshold: float = Field(description="the model's decision threshold", examples=[0.5])
    predictions: list[Answer]


FAILURES = documented(
    HTTPStatus.BAD_REQUEST,
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


async def predict_batch(state: State, content: bytes) -> Response:
    """The answer to a JSON array of records, in the order sent. Raises Problem."""

    def work() -> Response:
        records = body.many(content, state.settings.max_rows)
        model = state.ready_model()
        predictions = answers(model, records)
        threshold, version = model.metadata.threshold, model.version
        return _json({"model_version": version, "threshold": threshold, "predictions": predictions})

    return await run_in_threadpool(work)  # so that probes and single records need not wait for a large batch


def answers(model: Predictor, records: list[PatientRecord]) -> list[dict[str, object]]:
    """One Answer a record, in order."""
    probabilities = np.round(model(as_rows(records)).astype(np.float64), front.DIGITS)
    return [
        {
            "probability": probability,
            "heart_disease": probability >= model.metadata.threshold,
            "missing": record.missing(),
        }
        for probability, record in zip(probabilities.tolist(), records, strict=True)
    ]


def _json(content: object) -> Response:
    return Response(json.dumps(content, separators=(",", ":")), media_type="application/json")
