"""Assemble patients from a request's tensors: `patient` [N,13], or one tensor for each of the 13 fields."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from patient.artefact import INPUT
from patient.record import FIELDS
from service.api.v2.messages import DATATYPES, INTEGERS, Data, Tensor, bad_request, too_large

if TYPE_CHECKING:
    from service.settings import Settings

Rows = NDArray[np.float32 | np.float64 | np.integer]  # [N,13] in the record's order, NaN = missing


def rows_of(inputs: Sequence[Tensor], binary: memoryview, settings: "Settings") -> Rows:
    """Return unchecked values, [N,13]; `binary` holds the bytes of the binary tensors one after the other.

    Values of JSON tensors are float64, as they were written; those of binary ones have their datatype, exactly, and
    `patient` is a view that may be unaligned. Raises Problem 400, and 413 above the limits of JSON batches and of
    binary tables.
    """
    tensors = {tensor.name: tensor for tensor in inputs}
    if len(tensors) < len(inputs):
        raise bad_request("An input is given twice.")
    is_whole = tensors.keys() == {INPUT}
    if not is_whole and tensors.keys() != {*FIELDS}:
        raise bad_request(f"The inputs must be {INPUT} alone, or all of {', '.join(FIELDS)}.")
    width = len(FIELDS) if is_whole else 1
    count = _count(inputs, width)
    max_rows = settings.max_rows if any(tensor.data for tensor in inputs) else settings.max_table_rows
    if count > max_rows:
        raise too_large(f"A request may hold up to {max_rows} rows.")
    for tensor in inputs:
        _check_size(tensor, count * width)
    if sum(tensor.binary_bytes or 0 for tensor in inputs) > settings.max_part:
        raise too_large(f"The binary tensors are larger than {settings.max_part} bytes.")
    columns = _columns(inputs, count, width, binary)
    if is_whole:
        return columns[INPUT]
    rows = np.empty((count, len(FIELDS)), np.result_type(*columns.values()), order="F")
    for i, name in enumerate(FIELDS):
        rows[:, i] = columns[name][:, 0]
    return rows


def _columns(inputs: Sequence[Tensor], count: int, width: int, binary: memoryview) -> dict[str, Rows]:
    """The values [count,width] of each input."""
    columns: dict[str, Rows] = {}
    start = 0
    for tensor in inputs:  # in the order in which their bytes were sent
        if tensor.data is not None:
            columns[tensor.name] = _from_json(tensor, tensor.data, count, width)
            continue
        datatype = DATATYPES[tensor.datatype]
        size = datatype.itemsize * count * width
        if start + size > len(binary):
            raise bad_request(f"The body ends before {tensor.name} does.")
        columns[tensor.name] = np.frombuffer(binary, datatype, count * width, start).reshape(count, width)
        start += size
    if start < len(binary):
        raise bad_request("The body is longer than its JSON and the binary_data_size of its inputs say.")
    return columns


def _count(tensors: Sequence[Tensor], width: int) -> int:
    """The number of rows, once all datatypes and shapes are right."""
    counts = set()
    for tensor in tensors:
        if tensor.datatype not in DATATYPES:
            raise bad_request(f"{tensor.name} must hold numbers: its datatype must be one of {', '.join(DATATYPES)}.")
        allowed = [[width]] if width > 1 else [[], [1]]
        if not tensor.shape or tensor.shape[1:] not in allowed:
            raise bad_request(f"{tensor.name} must have the shape {'[N,13]' if width > 1 else '[N] or [N,1]'}.")
        counts.add(tensor.shape[0])
    if len(counts) > 1:
        raise bad_request("The inputs must have the same number of rows.")
    (count,) = counts
    if count < 1:
        raise bad_request("The batch is empty: send at least one row.")
    return count


def _check_size(tensor: Tensor, values: int) -> None:
    width = DATATYPES[tensor.datatype].itemsize
    size = width * values
    if tensor.parameters and tensor.parameters.shared_memory_region is not None:
        raise bad_request("Shared memory is not supported: send the values.")
    if (tensor.data is None) == (tensor.binary_bytes is None):
        raise bad_request(f"{tensor.name} must have either data or the parameter binary_data_size.")
    if tensor.binary_bytes not in (None, size):
        raise bad_request(f"{tensor.name} must have a binary_data_size of {size} for its shape: {width} bytes a value.")


def _from_json(tensor: Tensor, data: Data, count: int, width: int) -> NDArray[np.float64]:
    """float64[count,width] from data that are flat, or nested as the shape says."""
    try:
        values = np.array(data, np.float64)
    except (ValueError, TypeError):  # ragged
        values = np.empty(0)
    if list(values.shape) not in ([count * width], tensor.shape):
        raise bad_request(f"The data of {tensor.name} do not fill its shape, flat or nested.")
    if tensor.datatype in INTEGERS:
        limits = np.iinfo(DATATYPES[tensor.datatype])
        if ((values < limits.min) | (values > limits.max) | (values != np.rint(values)) & ~np.isnan(values)).any():
            raise bad_request(f"The data of {tensor.name} must be whole numbers in the range of {tensor.datatype}.")
    return values.reshape(count, width)
