"""The JSON of an inference request -> which tensors it brings and which it asks for, or a Problem 400.

No message repeats what was sent, names of tensors included.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
import pydantic_core

from patient.artefact import OUTPUT
from service.http.problems import Problem

Data = list[float | list[float | None] | None]  # flat or nested, row-major; null = missing


class OfTensor(msgspec.Struct):
    """The parameters of an input that mean something here."""

    binary_data_size: int | None = None
    shared_memory_region: Any = None


class Tensor(msgspec.Struct):
    """An input: its values are `data`, or lie behind the JSON, `binary_data_size` bytes of them."""

    name: str
    shape: list[int]
    datatype: str
    parameters: OfTensor | None = None
    data: Data | None = None

    @property
    def size(self) -> int | None:
        """How many bytes behind the JSON are its own; None if it has `data`."""
        return self.parameters.binary_data_size if self.parameters else None


class OfOutput(msgspec.Struct):
    """The parameters of an output that mean something here."""

    binary_data: bool | None = None
    classification: Any = None
    shared_memory_region: Any = None


class Output(msgspec.Struct):
    """An output that is asked for."""

    name: str
    parameters: OfOutput | None = None


class OfRequest(msgspec.Struct):
    """The parameters of a request that mean something here."""

    binary_data_output: bool | None = None


class Inference(msgspec.Struct):
    """$inference_request. What it does not name (sequences, priorities, a codec's hints) changes no answer here."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: OfRequest | None = None
    outputs: list[Output] | None = None

    @property
    def binary(self) -> bool:
        """Whether the probabilities are to come back as bytes. What is said of the output itself goes first."""
        said = self.outputs[0].parameters if self.outputs else None
        if said and said.binary_data is not None:
            return said.binary_data
        return bool(self.parameters and self.parameters.binary_data_output)


DECODE = msgspec.json.Decoder(Inference).decode


def decode(content: bytes, values: int) -> Inference:
    """The request in these bytes, which may hold up to `values` numbers. Raises Problem 400 or 413."""
    if content.count(b",") > values + SLACK:  # before they are parsed: that keeps all else waiting
        detail = f"JSON may hold up to {values} values; send more as binary tensors."
        raise refused(detail, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    try:
        found = DECODE(content)
    except msgspec.ValidationError as error:
        raise refused(f"{error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _with_nan(content)
    _check_outputs(found.outputs or [])
    return found


SLACK = 4096  # commas that part other things than numbers


def _with_nan(content: bytes) -> Inference:
    """The same where a missing value is NaN, which is no JSON, and what tritonclient writes."""
    try:
        return msgspec.convert(pydantic_core.from_json(content, allow_inf_nan=True), Inference)
    except msgspec.ValidationError as error:
        raise refused(f"{error}.") from None
    except (ValueError, RecursionError) as error:
        raise refused(f"Invalid JSON: {error}.") from None


def _check_outputs(outputs: list[Output]) -> None:
    if len(outputs) > 1 or any(output.name != OUTPUT for output in outputs):
        raise refused(f"The only output is {OUTPUT}; it can be asked for once.")
    for output in outputs:
        said = output.parameters
        if said and (said.classification is not None or said.shared_memory_region is not None):
            raise refused("Outputs are neither classified nor left in shared memory here.")


def refused(
    detail: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST, fields: Mapping[str, int] | None = None
) -> Problem:
    """What this protocol answers to whatever is wrong with a request: almost always 400."""
    return Problem(status, detail, fields=fields)
