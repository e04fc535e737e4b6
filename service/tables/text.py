"""Format columns as text and join them to rows of bytes, for CSV and JSON."""

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from service.records.results import DIGITS


def format_probabilities(column: pa.Array, before: str = "", after: str = "", null: str = "") -> pa.Array:
    """Format float64[n] from 0 to 1, rounded to DIGITS, as decimals such as 0.0731000: three times as fast as pyarrow.

    before and after: text around each; `join_rows` would take as long for it as for another column
    """
    values = np.asarray(column.fill_null(0) if column.null_count else column)
    left = np.rint(values * 10**DIGITS).astype(np.int32)
    head, tail = before.encode(), after.encode()
    width, start = len(head) + DIGITS + 2 + len(tail), len(head)
    text = np.empty((width, len(values)), np.uint8)
    for place in range(start + DIGITS + 1, start + 1, -1):
        rest = left // 10
        text[place] = left - rest * 10 + ord("0")
        left = rest
    text[start] = left + ord("0")
    text[start + 1] = ord(".")
    for place, byte in (*enumerate(head), *enumerate(tail, width - len(tail))):
        text[place] = byte
    ends = np.arange(len(values) + 1, dtype=np.int32) * np.int32(width)
    characters = pa.py_buffer(np.ascontiguousarray(text.T))
    found = pa.StringArray.from_buffers(len(values), pa.py_buffer(ends), characters)
    return pc.if_else(column.is_valid(), found, before + null + after) if column.null_count else found


def format_booleans(column: pa.Array, before: str = "", after: str = "", null: str = "") -> pa.Array:
    """Format bool[n] as `false` and `true`; see format_probabilities."""
    places = column.cast(pa.int8())
    words = pa.array([before + word + after for word in ("false", "true", null)])
    return words.take(places.fill_null(2) if column.null_count else places)


def to_json(value: Any) -> str | None:
    """Encode a cell's Python value as JSON text."""
    return None if value is None else msgspec.json.encode(value).decode()


def join_rows(*parts: Any) -> pa.Buffer:
    """Concatenate columns of text and the strings between them, row after row; null is an empty string."""
    rows = pc.binary_join_element_wise(*parts, "", null_handling="replace", null_replacement="")
    if not len(rows):
        return pa.py_buffer(b"")
    ends = np.frombuffer(rows.buffers()[1], np.int32)[rows.offset : rows.offset + len(rows) + 1]
    return rows.buffers()[2].slice(int(ends[0]), int(ends[-1] - ends[0]))
