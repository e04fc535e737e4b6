"""The Open Inference Protocol v2: what its clients ask, in its own paths, words and errors."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from patient.artefact import INPUT, OUTPUT
from patient.record import EXAMPLE, FIELDS
from service.api import health
from service.api.predict import json_body
from service.api.state import AppState
from service.api.v2.job import Job, asked
from service.api.v2.responses import NAME
from service.api.v2.tensors import DATATYPE
from service.http.body import read_body
from service.http.connection import SLOW_CLIENT_EXEMPT
from service.http.problems import OPEN_INFERENCE, Problem
from service.http.streams import ClientDisconnected, linger
from service.model.predictor import Predictor
from service.observe.request_context import record_scored
from service.records.errors import RecordError

MODEL = f"{OPEN_INFERENCE}/models/{NAME}"
ANY = OPEN_INFERENCE + "/models/{model}"  # the same and wrong ones, which are told what there is
VERSION = ANY + "/versions/{version}"


class OpenInferenceError(BaseModel):
    """What is wrong, in one string."""

    error: str


class ServerMetadata(BaseModel):
    """What speaks here."""

    name: str = "heart"
    version: str
    extensions: list[str] = ["binary_tensor_data"]


class ServerLive(BaseModel):
    """The process answers."""

    live: bool = True


class ServerReady(BaseModel):
    """It can answer for patients."""

    ready: bool = True


class ModelReady(ServerReady):
    """The model can."""

    name: str = NAME


class TensorMetadata(BaseModel):
    """A tensor of the model; -1 is any number of rows."""

    name: str
    datatype: str = DATATYPE
    shape: list[int]


class ModelMetadata(BaseModel):
    """The model, and its tensors."""

    name: str = NAME
    versions: list[str] = Field(description="the one that serves", examples=[["1"]])
    platform: str = "onnxruntime_onnx"
    inputs: list[TensorMetadata] = [TensorMetadata(name=INPUT, shape=[-1, len(FIELDS)])]
    outputs: list[TensorMetadata] = [TensorMetadata(name=OUTPUT, shape=[-1, 1])]


class RepositoryIndex(BaseModel):
    """A version, and whether it serves."""

    name: str = NAME
    version: str
    state: str = "READY"
    reason: str = ""


class ResponseOutput(TensorMetadata):
    """A tensor with its values, flat, row by row."""

    data: list[float]


class InferenceResponse(BaseModel):
    """$inference_response."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str = NAME
    model_version: str
    id: str | None = Field(None, description="that of the request, if it had one")
    outputs: list[ResponseOutput]


def failing(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can fail in these ways, for OpenAPI."""
    return {int(status): {"description": status.phrase, "model": OpenInferenceError} for status in statuses}


NOT_READY = failing(HTTPStatus.SERVICE_UNAVAILABLE)
NOT_FOUND = failing(HTTPStatus.NOT_FOUND) | NOT_READY
FAILURES = NOT_FOUND | failing(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.INTERNAL_SERVER_ERROR,
)
BINARY: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": {}}}}
REQUEST = {
    "inputs": [{"name": INPUT, "datatype": DATATYPE, "shape": [1, len(FIELDS)], "data": [[*EXAMPLE.values()]]}],
}
TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string", "enum": [INPUT, *FIELDS]},
        "datatype": {"type": "string", "const": DATATYPE},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2},
        "data": {"type": "array", "description": "row-major, flat or nested; null: not taken; absent where binary"},
    },
}
INPUTS = {"type": "array", "items": TENSOR, "minItems": 1}
TAKES = json_body({"type": "object", "required": ["inputs"], "properties": {"inputs": INPUTS}}, REQUEST)
router = APIRouter(tags=["Open Inference Protocol v2"])
unlisted = APIRouter(include_in_schema=False)


@router.get(OPEN_INFERENCE)
async def server(request: Request) -> ServerMetadata:
    """What speaks here, and which extensions of the protocol."""
    return ServerMetadata(version=request.app.version)


@router.get(OPEN_INFERENCE + "/health/live")
async def live() -> ServerLive:
    """Whether the process runs."""
    return ServerLive()


@router.get(OPEN_INFERENCE + "/health/ready", responses=NOT_READY)
async def ready(request: Request) -> ServerReady:
    """Whether the service can answer, as /health/ready judges it."""
    await health.ready(request)
    return ServerReady()


@router.post(OPEN_INFERENCE + "/repository/index", responses=NOT_READY)
async def index(request: Request) -> list[RepositoryIndex]:
    """The version that serves, as Triton lists its models."""
    return [RepositoryIndex(version=AppState.of(request).ready_model().version)]


@router.get(MODEL, responses=NOT_FOUND)
@unlisted.get(ANY)
@unlisted.get(VERSION)
async def described(request: Request) -> ModelMetadata:
    """The model's version and tensors. Instead of `patient`, 13 tensors named as the fields are taken too.

    This path and those below it also exist with `/versions/{version}` behind the model.
    """
    return ModelMetadata(versions=[_model(request).version])


@router.get(MODEL + "/ready", responses=NOT_FOUND)
@unlisted.get(ANY + "/ready")
@unlisted.get(VERSION + "/ready")
async def model_ready(request: Request) -> ModelReady:
    """Whether the model can answer."""
    _model(request)
    await health.ready(request)
    return ModelReady()


@router.post(MODEL + "/infer", response_model=InferenceResponse, responses=FAILURES | BINARY, openapi_extra=TAKES)
@unlisted.post(ANY + "/infer")
@unlisted.post(VERSION + "/infer")
async def infer(request: Request) -> Response:
    """The probabilities for N patients: `patient` FP32 [N,13], fields in the record's order, to `probability` [N,1].

    What was not taken is null, or NaN in bytes. Tensors are JSON or binary (extension `binary_tensor_data`).
    """
    state = AppState.of(request)
    _model(request)
    job = Job(asked(request.headers), state)
    if not job.asked.in_thread(state.settings):
        response = await job.in_loop(await read_body(request.scope, request.receive, state.settings.max_body))
        record_scored(job.rows, job.model.version)
        return response
    settings = state.settings
    answer = None
    request.scope[SLOW_CLIENT_EXEMPT] = True
    try:
        async with state.streams.run(job.work, request.receive, settings.max_stall, settings.max_seconds) as answer:
            async for _ in answer:
                pass
    except ClientDisconnected:
        raise ClientDisconnect from None
    except (Problem, RecordError):
        await linger(request.receive if answer and not answer.body.ended else None)
        raise
    assert job.response
    record_scored(job.rows, job.model.version)
    return job.response


def _model(request: Request) -> Predictor:
    """The model that this path names. Raises Problem 404 and 503."""
    model = AppState.of(request).ready_model()
    asked = request.path_params
    if asked.get("model", NAME) != NAME:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no such model; {NAME} is served.")
    if asked.get("version", model.version) != model.version:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no such version; version {model.version} serves.")
    return model


router.include_router(unlisted)
