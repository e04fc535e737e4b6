"""The routes of the Open Inference Protocol v2, and their OpenAPI models."""

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
from service.api.v2.inference import HEADERS, Inference
from service.api.v2.messages import DATATYPE, DATATYPES, MODEL_NAME
from service.http.body import read_body
from service.http.fairness import client_of
from service.http.problems import OPEN_INFERENCE, Problem
from service.http.streams import ClientDisconnected, discard_body
from service.model.predictor import Predictor
from service.observe.request_context import record_scored

MODEL = f"{OPEN_INFERENCE}/models/{MODEL_NAME}"
ANY_MODEL = OPEN_INFERENCE + "/models/{model}"  # so that wrong names and versions get an error that says what is served
ANY_VERSION = ANY_MODEL + "/versions/{version}"


class OpenInferenceError(BaseModel):
    error: str


class ServerMetadata(BaseModel):
    name: str = "heart"
    version: str
    extensions: list[str] = ["binary_tensor_data", "model_configuration"]


class ServerLive(BaseModel):
    live: bool = True


class ServerReady(BaseModel):
    ready: bool = True


class ModelReady(ServerReady):
    name: str = MODEL_NAME


class TensorMetadata(BaseModel):
    """A tensor of the model; -1 is any number of rows."""

    name: str
    datatype: str = DATATYPE
    shape: list[int]


class ModelMetadata(BaseModel):
    name: str = MODEL_NAME
    versions: list[str] = Field(description="the version that serves", examples=[["1"]])
    platform: str = "onnxruntime_onnx"
    inputs: list[TensorMetadata] = [TensorMetadata(name=INPUT, shape=[-1, len(FIELDS)])]
    outputs: list[TensorMetadata] = [TensorMetadata(name=OUTPUT, shape=[-1, 1])]


class TensorConfig(BaseModel):
    """A tensor of the model, without the dimension of rows."""

    name: str
    data_type: str = f"TYPE_{DATATYPE}"
    dims: list[int]


class LatestVersion(BaseModel):
    num_versions: int = 1


class VersionPolicy(BaseModel):
    latest: LatestVersion = LatestVersion()


class ModelConfig(BaseModel):
    """Triton's model configuration."""

    name: str = MODEL_NAME
    platform: str = "onnxruntime_onnx"
    backend: str = "onnxruntime"
    version_policy: VersionPolicy = VersionPolicy()
    max_batch_size: int = Field(description="most rows of a request in JSON; binary tensors may have more")
    input: list[TensorConfig] = [TensorConfig(name=INPUT, dims=[len(FIELDS)])]
    output: list[TensorConfig] = [TensorConfig(name=OUTPUT, dims=[1])]


class RepositoryIndex(BaseModel):
    name: str = MODEL_NAME
    version: str
    state: str = "READY"
    reason: str = ""


class ResponseOutput(TensorMetadata):
    """A tensor with its values, flat, row by row."""

    data: list[float]


class InferenceResponse(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    model_name: str = MODEL_NAME
    model_version: str
    id: str | None = Field(None, description="the request's id, if it had one")
    outputs: list[ResponseOutput]


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": HTTPStatus(status).phrase, "model": OpenInferenceError} for status in statuses}


NOT_READY = error_responses(503)
NOT_FOUND = error_responses(404, 503)
FAILURES = error_responses(400, 404, 408, 413, 415, 500, 503)
EXAMPLE_REQUEST = {
    "inputs": [{"name": INPUT, "datatype": DATATYPE, "shape": [1, len(FIELDS)], "data": [[*EXAMPLE.values()]]}],
}
TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string", "enum": [INPUT, *FIELDS]},
        "datatype": {"type": "string", "enum": [*DATATYPES]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2},
        "data": {
            "type": "array",
            "description": "row-major, flat or nested; null: not taken; absent for a binary tensor",
        },
    },
}
INPUTS = {"type": "array", "items": TENSOR, "minItems": 1}
REQUEST_BODY = json_body({"type": "object", "required": ["inputs"], "properties": {"inputs": INPUTS}}, EXAMPLE_REQUEST)
router = APIRouter(tags=["Open Inference Protocol v2"])


@router.get(OPEN_INFERENCE)
async def server_metadata(request: Request) -> ServerMetadata:
    """The server's name and version, and the protocol's extensions that it supports."""
    return ServerMetadata(version=request.app.version)


@router.get(OPEN_INFERENCE + "/health/live")
async def live() -> ServerLive:
    """Whether the process runs."""
    return ServerLive()


@router.get(OPEN_INFERENCE + "/health/ready", responses=NOT_READY)
async def ready(request: Request) -> ServerReady:
    """Whether the service can score records, by the same checks as /health/ready."""
    await health.ready(request)
    return ServerReady()


@router.post(OPEN_INFERENCE + "/repository/index", responses=NOT_READY)
async def repository_index(request: Request) -> list[RepositoryIndex]:
    """The version that serves, in the form in which Triton lists its models."""
    return [RepositoryIndex(version=AppState.of(request).ready_model().version)]


@router.get(ANY_VERSION, include_in_schema=False)
@router.get(ANY_MODEL, include_in_schema=False)
@router.get(MODEL, responses=NOT_FOUND)  # registered before the others, and so matched first
async def model_metadata(request: Request) -> ModelMetadata:
    """The model's version and tensors. Instead of `patient`, 13 tensors named after the fields are accepted too.

    This path and those below it also exist with `/versions/{version}` after the model.
    """
    return ModelMetadata(versions=[_model(request).version])


@router.get(ANY_VERSION + "/config", include_in_schema=False)
@router.get(ANY_MODEL + "/config", include_in_schema=False)
@router.get(MODEL + "/config", responses=NOT_FOUND)
async def model_config(request: Request) -> ModelConfig:
    """The model's configuration, in the form of Triton's extension `model_configuration`."""
    _model(request)
    return ModelConfig(max_batch_size=AppState.of(request).settings.max_rows)


@router.get(ANY_VERSION + "/ready", include_in_schema=False)
@router.get(ANY_MODEL + "/ready", include_in_schema=False)
@router.get(MODEL + "/ready", responses=NOT_FOUND)
async def model_ready(request: Request) -> ModelReady:
    """Whether the model can score records."""
    _model(request)
    await health.ready(request)
    return ModelReady()


@router.post(ANY_VERSION + "/infer", include_in_schema=False)
@router.post(ANY_MODEL + "/infer", include_in_schema=False)
@router.post(
    MODEL + "/infer",
    response_model=InferenceResponse,
    responses=FAILURES | {200: {"content": {"application/octet-stream": {}}}},
    openapi_extra=REQUEST_BODY,
)
async def infer(request: Request) -> Response:
    """The probabilities of heart disease for N patients: input `patient` FP32 [N,13], output `probability` FP32 [N,1].

    The columns of `patient` are the record's fields in their order. A measurement that was not taken is null in JSON
    and NaN in binary tensors. Tensors are JSON or binary (extension `binary_tensor_data`). FP64, integers of any width
    and BOOL are taken as well.
    """
    state = AppState.of(request)
    model = _model(request)
    inference = Inference(request.headers, state.settings)
    if inference.needs_worker():
        return await _infer_in_worker(request, model, state)
    body = await read_body(request.scope, request.receive, state.settings.max_body)
    response = await inference.run_in_loop(body, state, client_of(request.scope))
    record_scored(inference.scored_rows, inference.version)
    return response


async def _infer_in_worker(request: Request, model: Predictor, state: AppState) -> Response:
    from service.api import jobs  # imports pyarrow, which start-up need not wait for
    from service.api.worker_scoring import WorkerScoring

    settings, stream = state.settings, None
    scoring = WorkerScoring(model, state.metrics)
    work = state.streams.run(
        jobs.INFERENCE,
        jobs.arguments(request, HEADERS, model, settings),
        request.scope,
        request.receive,
        scoring,
        lambda _event: None,
        settings.max_stall,
        settings.max_seconds,
    )
    try:
        async with work as stream:
            content = b"".join([piece async for piece in stream])
            result = jobs.result(stream.done)
    except ClientDisconnected:
        raise ClientDisconnect from None
    except Problem:
        if not (stream and stream.is_body_complete):
            await discard_body(request.receive)
        raise
    record_scored(result["rows"], model.version)
    return Response(content, headers=dict(result["headers"]))


def _model(request: Request) -> Predictor:
    """The model, if the path names the one that serves. Raises Problem 404 and 503."""
    model = AppState.of(request).ready_model()
    wanted = request.path_params
    if wanted.get("model", MODEL_NAME) != MODEL_NAME:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no such model; {MODEL_NAME} is served.")
    if wanted.get("version", model.version) != model.version:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no such version; version {model.version} serves.")
    return model
