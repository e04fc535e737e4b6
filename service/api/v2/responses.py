"""Probabilities -> $inference_response, as JSON or with the bytes behind it, compressed if that was wished."""

import gzip
import zlib
from collections.abc import Callable

import msgspec
from starlette.responses import Response

from patient.artefact import OUTPUT
from patient.encoding import Floats
from service.api.v2.requests import Inference
from service.api.v2.tensors import DATATYPE, LITTLE
from service.records.results import rounded

NAME = "heart_disease"  # of the model
HEADER = "Inference-Header-Content-Length"
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda content: gzip.compress(content, 1),
    "deflate": lambda content: zlib.compress(content, 1),
}


def response(request: Inference, version: str, probabilities: Floats, wished: str) -> Response:
    """The answer to a request. `wished`: its Accept-Encoding.

    It is compressed only if that names one coding and no other, as tritonclient does where it is asked to. The list
    that every HTTP library sends is no wish, and random digits hardly get smaller.
    """
    told = rounded(probabilities)  # as /predict tells them
    output: dict[str, object] = {"name": OUTPUT, "datatype": DATATYPE, "shape": [len(told), 1]}
    binary = told.astype(LITTLE).tobytes() if request.binary else b""
    if request.binary:
        output["parameters"] = {"binary_data_size": len(binary)}
    else:
        output["data"] = told.tolist()
    said: dict[str, object] = {"model_name": NAME, "model_version": version, "outputs": [output]}
    if request.id is not None:
        said["id"] = request.id
    head = msgspec.json.encode(said)
    headers = {HEADER: str(len(head))} if request.binary else {}
    content = head + binary
    if pack := PACK.get(wished.strip().lower()):
        content, headers["Content-Encoding"] = pack(content), wished.strip().lower()
    return Response(content, headers=headers, media_type="application/octet-stream" if binary else "application/json")
