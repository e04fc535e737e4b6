"""The tensors of a request -> patients, a row each: `patient` [N,13], or one tensor for each of the 13 fields."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from patient.artefact import INPUT
from patient.record import FIELDS
from service.api.v2.requests import Data, Inference, Tensor, refused
from service.settings import Settings

DATATYPE = "FP32"
LITTLE = np.dtype("<f4")  # FP32 as it is on the wire
Rows = NDArray[np.float32 | np.float64]  # [N,13] in the record's order, NaN = missing


class Source(Protocol):
    """What a body is read from. It may have a `readinto`, which spares a copy."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, as soon as there are any; none at the end."""


def rows(request: Inference, source: Source, settings: Settings) -> Rows:
    """float[N,13], values not judged yet. Binary tensors are read from `source`, of which nothing may be left.

    JSON values are float64, as they were written; binary ones float32. Raises Problem 400, and 413 above the limits of
    JSON batches and of binary tables.
    """
    tensors = {tensor.name: tensor for tensor in request.inputs}
    if len(tensors) < len(request.inputs):
        raise refused("An input is given twice.")
    whole = tensors.keys() == {INPUT}
    if not whole and tensors.keys() != {*FIELDS}:
        raise refused(f"The inputs are {INPUT} alone, or all of {', '.join(FIELDS)}.")
    width = len(FIELDS) if whole else 1
    count = _count(request.inputs, width)
    most = settings.max_rows if any(tensor.data for tensor in request.inputs) else settings.max_table_rows
    if count > most:
        raise refused(f"Up to {most} rows may come at once.", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    for tensor in request.inputs:
        _check_size(tensor, LITTLE.itemsize * count * width)
    if sum(tensor.size or 0 for tensor in request.inputs) > settings.max_part:
        detail = f"The binary tensors are larger than {settings.max_part} bytes."
        raise refused(detail, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if whole:
        found = _values(tensors[INPUT], count, width, source)
    else:
        found = np.empty((count, len(FIELDS)), order="F")
        for tensor in request.inputs:  # the order in which their bytes lie
            found[:, FIELDS.index(tensor.name)] = _values(tensor, count, width, source)[:, 0]
    if source.read(1):
        raise refused("The body is longer than its JSON and the binary_data_size of its inputs say.")
    return found


def _count(tensors: Sequence[Tensor], width: int) -> int:
    """The number of rows, once all datatypes and shapes are right."""
    counts = set()
    for tensor in tensors:
        if tensor.datatype != DATATYPE:
            raise refused(f"{tensor.name} must have the datatype {DATATYPE}.")
        allowed = [[width]] if width > 1 else [[], [1]]
        if not tensor.shape or tensor.shape[1:] not in allowed:
            raise refused(f"{tensor.name} must have the shape {'[N,13]' if width > 1 else '[N] or [N,1]'}.")
        counts.add(tensor.shape[0])
    if len(counts) > 1:
        raise refused("The inputs must have the same number of rows.")
    (count,) = counts
    if count < 1:
        raise refused("The batch is empty: send at least one row.")
    return count


def _check_size(tensor: Tensor, size: int) -> None:
    if tensor.parameters and tensor.parameters.shared_memory_region is not None:
        raise refused("Shared memory is not read here: send the values.")
    if (tensor.data is None) == (tensor.size is None):
        raise refused(f"{tensor.name} must have either data or the parameter binary_data_size.")
    if tensor.size not in (None, size):
        raise refused(f"{tensor.name} must have a binary_data_size of {size} for its shape: 4 bytes a value.")


def _values(tensor: Tensor, count: int, width: int, source: Source) -> Rows:
    """float[count,width]."""
    if tensor.data is not None:
        return _numbers(tensor, tensor.data, count, width)
    values = np.empty((count, width), LITTLE)
    if _fill(source, values.reshape(-1).view(np.uint8).data) < values.nbytes:
        raise refused(f"The body ends before {tensor.name} does.")
    return values


def _numbers(tensor: Tensor, data: Data, count: int, width: int) -> Rows:
    """float64[count,width] of data that are flat, or nested as the shape says."""
    try:
        found = np.array(data, np.float64)
    except (ValueError, TypeError):  # ragged
        found = np.empty(0)
    if list(found.shape) not in ([count * width], tensor.shape):
        raise refused(f"The data of {tensor.name} do not fill its shape, flat or nested.")
    return found.reshape(count, width)


def _fill(source: Source, view: memoryview) -> int:
    """Read as many bytes as a view holds into it, fewer only at the end; returns how many."""
    done = 0
    readinto = getattr(source, "readinto", None)
    while done < len(view):
        if readinto:
            size = readinto(view[done:])
        else:
            data = source.read(len(view) - done)
            size = len(data)
            view[done : done + size] = data
        if not size:
            break
        done += size
    return done
