"""Columns as text, and rows of text as bytes: what the formats that people can read share."""

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from service.answers import DIGITS


def probabilities(column: pa.Array) -> pa.Array:
    """float64[n] from 0 to 1, rounded to DIGITS, as decimals such as 0.0731000: thrice as fast as pyarrow."""
    values = np.asarray(column.fill_null(0) if column.null_count else column)
    left = np.rint(values * 10**DIGITS).astype(np.int32)
    text = np.empty((DIGITS + 2, len(values)), np.uint8)
    for place in range(DIGITS + 1, 1, -1):
        rest = left // 10
        text[place] = left - rest * 10
        left = rest
    text[0] = left
    text += ord("0")
    text[1] = ord(".")
    ends = np.arange(len(values) + 1, dtype=np.int32) * np.int32(DIGITS + 2)
    characters = pa.py_buffer(np.ascontiguousarray(text.T))
    found = pa.StringArray.from_buffers(len(values), pa.py_buffer(ends), characters)
    return pc.if_else(column.is_valid(), found, None) if column.null_count else found


def as_json(value: Any) -> str | None:
    """JSON text of what pyarrow makes of a cell: dates in ISO 8601, bytes in base64."""
    return None if value is None else msgspec.json.encode(value, enc_hook=str).decode()


def is_names(kind: pa.DataType) -> bool:
    """Whether a column holds lists of strings."""
    return bool(pa.types.is_list(kind) and pa.types.is_string(kind.value_type))


def joined(*parts: Any) -> pa.Buffer:
    """Columns of text and the strings between them, as the bytes of all rows one after the other; null is nothing."""
    rows = pc.binary_join_element_wise(*parts, "", null_handling="replace", null_replacement="")
    if not len(rows):
        return pa.py_buffer(b"")
    ends = np.frombuffer(rows.buffers()[1], np.int32)[rows.offset : rows.offset + len(rows) + 1]
    return rows.buffers()[2].slice(int(ends[0]), int(ends[-1] - ends[0]))
