"""The JSON of inference requests and responses, and the binary tensors behind it.

Errors repeat nothing that was sent, not even names of tensors.
"""

import zlib
from collections.abc import Mapping
from http import HTTPStatus
from itertools import chain

import msgspec
import numpy as np
import pydantic_core
from numpy.typing import NDArray
from starlette.responses import Response

from patient.artefact import OUTPUT
from patient.record import FIELDS
from service.http.problems import Problem

MODEL_NAME = "heart_disease"
DATATYPE = "FP32"  # of the model's own tensors
BOOL = "BOOL"
INTEGERS = {f"{sign}INT{8 * size}": f"<{sign.lower() or 'i'}{size}" for sign in ("", "U") for size in (1, 2, 4, 8)}
# The datatypes that inputs may have, little-endian, as binary tensors are sent.
DATATYPES = {name: np.dtype(code) for name, code in {DATATYPE: "<f4", "FP64": "<f8", **INTEGERS, BOOL: "u1"}.items()}
JSON_LENGTH_HEADER = "Inference-Header-Content-Length"  # bytes of JSON in front of binary tensors
OTHER_VALUES = 4096  # in a request's JSON, other than those of its tensors
ZLIB_FORMATS = {"gzip": 31, "deflate": zlib.MAX_WBITS}  # zlib's `wbits`

Scalar = float | bool | str | None  # no array: it could be nested deeply
Data = list[float | bool | list[float | bool | None] | None]  # flat or nested, row-major; null = missing


class Parameters(msgspec.Struct):
    """Parameters of a request, an input or an output: three that are supported, and two that are rejected."""

    binary_data_size: int | None = None  # of an input
    binary_data: bool | None = None  # of an output
    binary_data_output: bool | None = None  # of a request
    classification: Scalar = None
    shared_memory_region: Scalar = None


class Tensor(msgspec.Struct):
    """An input: its values are `data`, or the next `binary_data_size` bytes behind the JSON."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: Data | None = None

    @property
    def binary_bytes(self) -> int | None:
        return self.parameters.binary_data_size if self.parameters else None


class Output(msgspec.Struct):
    name: str
    parameters: Parameters | None = None


class InferenceRequest(msgspec.Struct):
    """$inference_request. Fields that it does not name (sequences, priorities, a codec's hints) are ignored."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[Output] | None = None

    @property
    def has_binary_output(self) -> bool:
        """Whether the client wants probabilities as bytes. An output's own parameter takes precedence."""
        own = self.outputs[0].parameters if self.outputs else None
        if own and own.binary_data is not None:
            return own.binary_data
        return bool(self.parameters and self.parameters.binary_data_output)


DECODER = msgspec.json.Decoder(InferenceRequest)


def bad_request(detail: str, fields: Mapping[str, int] | None = None) -> Problem:
    """400, the protocol's status for almost every invalid request."""
    return Problem(HTTPStatus.BAD_REQUEST, detail, fields=fields)


def too_large(detail: str) -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def decode_request(content: bytes, max_rows: int) -> InferenceRequest:
    """Decode a request's JSON. Raises Problem 400, and 413 if it may hold more than `max_rows` rows."""
    max_values = max_rows * len(FIELDS)
    nested = content.count(b":") + content.count(b"[") + content.count(b"{")
    # Before parsing, which would block the event loop.
    if content.count(b",") > max_values + OTHER_VALUES or nested > max_rows + OTHER_VALUES:
        raise too_large(f"JSON may hold up to {max_values} values; send more as binary tensors.")
    try:
        request = _decode(content)
    except msgspec.ValidationError as error:
        raise bad_request(f"{error}.") from None
    except (ValueError, RecursionError) as error:
        raise bad_request(f"Invalid JSON: {error}.") from None
    outputs = request.outputs or []
    if len(outputs) > 1 or any(output.name != OUTPUT for output in outputs):
        raise bad_request(f"The only output is {OUTPUT}; it can be requested once.")
    own = outputs[0].parameters if outputs else None
    if own and (own.classification is not None or own.shared_memory_region is not None):
        raise bad_request("Classification and shared memory are not supported for outputs.")
    has_booleans = b"true" in content or b"false" in content
    for tensor in request.inputs:
        if tensor.data and (has_booleans or tensor.datatype == BOOL):
            _check_booleans(tensor.datatype, tensor.data)
    return request


def _check_booleans(datatype: str, data: Data) -> None:
    """Raise Problem 400 for booleans in a tensor of numbers, and for numbers in one of booleans."""
    flat = chain.from_iterable(item if isinstance(item, list) else (item,) for item in data)
    kinds = set(map(type, flat)) - {type(None)}
    if datatype == BOOL and kinds - {bool}:
        raise bad_request(f"The data of a tensor of the datatype {BOOL} must be true, false or null.")
    if datatype != BOOL and bool in kinds:
        raise bad_request(f"Booleans are allowed in tensors of the datatype {BOOL} only.")


def _decode(content: bytes) -> InferenceRequest:
    try:
        return DECODER.decode(content)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # tritonclient writes NaN for missing values
        return msgspec.convert(pydantic_core.from_json(content, allow_inf_nan=True), InferenceRequest)


def encode_response(
    request: InferenceRequest, version: str, probabilities: NDArray[np.float64], accept_encoding: str
) -> Response:
    """$inference_response with rounded probabilities float64[N].

    It is compressed only if Accept-Encoding names a single coding, as tritonclient sends it when asked to compress.
    The default list that HTTP clients send is ignored: random digits hardly compress.
    """
    output: dict[str, object] = {"name": OUTPUT, "datatype": DATATYPE, "shape": [len(probabilities), 1]}
    binary = probabilities.astype(DATATYPES[DATATYPE]).tobytes() if request.has_binary_output else b""
    if binary:
        output["parameters"] = {"binary_data_size": len(binary)}
    else:
        output["data"] = probabilities.tolist()
    message: dict[str, object] = {"model_name": MODEL_NAME, "model_version": version, "outputs": [output]}
    if request.id is not None:
        message["id"] = request.id
    head = msgspec.json.encode(message)
    headers = {JSON_LENGTH_HEADER: str(len(head))} if binary else {}
    content, encoding = head + binary, accept_encoding.strip().lower()
    if encoding in ZLIB_FORMATS:
        content, headers["Content-Encoding"] = zlib.compress(content, 1, ZLIB_FORMATS[encoding]), encoding
    return Response(content, headers=headers, media_type="application/octet-stream" if binary else "application/json")
