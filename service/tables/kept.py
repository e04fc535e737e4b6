"""Kept columns of any Arrow type: as text for CSV and JSON, and as types that a file can hold.

Binary becomes base64, a UUID its usual text, and dates, times and durations become ISO 8601, whatever their range.
"""

import base64
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.records.errors import ColumnsError, FieldFault
from service.tables.source import PYARROW_ERRORS

MAX_TYPE_LENGTH = 100  # characters of a type's name in a message
YEARS_1_TO_9999 = np.array(["0001-01-02", "9999-12-30"], "M8[s]").view(np.int64)  # a time zone may move them by a day
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
UNIFORM = (pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)  # both formats write them
TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_decimal)
BINARIES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
VIEWS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}  # pyarrow cannot `take` from views
INTERVAL = pa.month_day_nano_interval()


def check(schema: pa.Schema, is_fit: Callable[[pa.DataType], bool], format_: str, named: Sequence[str]) -> None:
    """Raise ColumnsError for columns that a format cannot hold. named: names that the client gave, thus repeatable."""
    if unfit := [i for i, field in enumerate(schema) if not is_fit(field.type)]:
        raise refusal(schema, unfit, format_, named)


def refusal(schema: pa.Schema, unfit: Sequence[int], format_: str, named: Sequence[str]) -> ColumnsError:
    faults = []
    for i in unfit:
        field, place = schema.field(i), f"Column {i + 1} of the kept ones: "
        detail = f"{format_} cannot hold its type or its values ({describe(field.type)}): convert it, or do not keep it"
        faults.append(FieldFault(field.name, detail) if field.name in named else FieldFault("", place + detail))
    return ColumnsError(faults)


def describe(kind: pa.DataType) -> str:
    """Name an Arrow type without what its sender named: fields of a struct, and time zones."""
    return _describe(kind)[:MAX_TYPE_LENGTH]


def _describe(kind: pa.DataType) -> str:
    name = str(kind).split("<")[0].split("[")[0].split("(")[0]
    if isinstance(kind, pa.BaseExtensionType):
        return f"{name}<{_describe(kind.storage_type)}>"
    if inner := children(kind):
        return f"{name}<{', '.join(map(_describe, inner))}>"
    return name


def children(kind: pa.DataType) -> list[pa.DataType]:
    if isinstance(kind, pa.BaseExtensionType):
        return [kind.storage_type]
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return [kind.value_type]
    if pa.types.is_map(kind):
        return [kind.key_type, kind.item_type]
    return [kind.field(i).type for i in range(kind.num_fields)]


def has_text(kind: pa.DataType) -> bool:
    """Return whether `values` knows a type. A struct that has a name twice is not one JSON object."""
    if pa.types.is_struct(kind) and len({kind.field(i).name for i in range(kind.num_fields)}) < kind.num_fields:
        return False
    if inner := children(kind):
        return all(map(has_text, inner))
    is_known = any(test(kind) for test in (*UNIFORM, *TEXTS, *BINARIES, pa.types.is_temporal)) or kind == INTERVAL
    return bool(is_known or pa.types.is_struct(kind))


def is_flat(kind: pa.DataType) -> bool:
    """Return whether `as_text` takes a type: one value per cell, however it is encoded."""
    if isinstance(kind, pa.BaseExtensionType):
        return is_flat(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return is_flat(kind.value_type)
    return not pa.types.is_nested(kind)


def as_text(array: pa.Array, between: str = " ") -> pa.Array:
    """Convert a flat array to strings; numbers, booleans and nulls stay. between: date and time"""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _extension(array, between)
    if pa.types.is_dictionary(kind):
        return as_text(array.dictionary, between).take(array.indices)
    if pa.types.is_run_end_encoded(kind):
        return as_text(array.values, between).take(_runs(array))
    if any(test(kind) for test in UNIFORM):
        return array
    if any(test(kind) for test in TEXTS):
        return array.cast(pa.string())
    if any(test(kind) for test in BINARIES):
        return _map(lambda value: base64.b64encode(value).decode(), array)
    return _temporal(array, between)


def _extension(array: pa.ExtensionArray, between: str) -> pa.Array:
    if isinstance(array.type, pa.UuidType):
        return _map(lambda value: str(uuid.UUID(bytes=value)), array.storage)
    if isinstance(array.type, pa.Bool8Type):
        return array.storage.cast(pa.bool_())
    return as_text(array.storage, between)


def _temporal(array: pa.Array, between: str) -> pa.Array:
    kind = array.type
    if pa.types.is_timestamp(kind):
        return _timestamps(array, between)
    if pa.types.is_date(kind):
        unit = "D" if pa.types.is_date32(kind) else "ms"
        return pa.array(np.datetime_as_string(_counts(array).view(f"M8[{unit}]"), unit="D"), mask=_nulls(array))
    if pa.types.is_time(kind):
        return _map(partial(_time, kind.unit), _counts(array), _nulls(array))
    if pa.types.is_duration(kind):
        return _map(lambda count: f"PT{_seconds(count, kind.unit)}S", _counts(array), _nulls(array))
    return _map(lambda value: f"P{value[0]}M{value[1]}DT{_seconds(value[2], 'ns')}S", array)


def values(array: pa.Array) -> list[Any]:
    """Convert an array of any type that has_text to Python values that JSON knows; bytes and times are strings."""
    kind = array.type
    if is_flat(kind):
        return list(as_text(array, "T").to_pylist())
    if isinstance(kind, pa.BaseExtensionType):
        return values(array.storage)
    if pa.types.is_dictionary(kind):
        return _pick(values(array.dictionary), array.indices.to_pylist())
    if pa.types.is_run_end_encoded(kind):
        return _pick(values(array.values), _runs(array).tolist())
    if pa.types.is_union(kind):
        return _union(array)
    valid = array.is_valid().to_pylist()
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        columns = [values(array.field(i)) for i in range(kind.num_fields)]
        rows: Iterable[Any] = zip(*columns, strict=True) if columns else [()] * len(array)
        found = zip(rows, valid, strict=True)
        return [dict(zip(names, row, strict=True)) if is_valid else None for row, is_valid in found]
    starts, ends = _bounds(array)
    used = np.asarray(valid, bool)
    first, last = (int(starts[used].min()), int(ends[used].max())) if used.any() else (0, 0)
    if pa.types.is_map(kind):
        parts = (array.keys, array.items)
        inner: list[Any] = [list(pair) for pair in zip(*(values(part[first:last]) for part in parts), strict=True)]
    else:
        inner = values(array.values[first:last])
    bounds = zip((starts - first).tolist(), (ends - first).tolist(), valid, strict=True)
    return [inner[start:end] if is_valid else None for start, end, is_valid in bounds]


def _bounds(array: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last place, exclusive, of each list among its values."""
    kind = array.type
    if pa.types.is_fixed_size_list(kind):
        starts = (np.arange(len(array), dtype=np.int64) + array.offset) * kind.list_size
        return starts, starts + kind.list_size
    offsets = np.asarray(array.offsets).astype(np.int64)
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return offsets, offsets + np.asarray(array.sizes).astype(np.int64)
    return offsets[:-1], offsets[1:]


def _union(array: pa.UnionArray) -> list[Any]:
    if not len(array):  # it may have no buffers
        return []
    kind = array.type
    children = {code: values(array.field(i)) for i, code in enumerate(kind.type_codes)}
    rows, buffers = slice(array.offset, array.offset + len(array)), array.buffers()
    codes = np.frombuffer(buffers[1], np.int8)[rows].tolist()  # pyarrow's own properties forget a slice's offset
    places = np.frombuffer(buffers[2], np.int32)[rows].tolist() if kind.mode == "dense" else range(len(array))
    return [children[code][place] for code, place in zip(codes, places, strict=True)]


def _pick(found: list[Any], places: list[int | None]) -> list[Any]:
    return [None if place is None else found[place] for place in places]


def _runs(array: pa.RunEndEncodedArray) -> NDArray[np.int64]:
    """The run of each row: int64[n]"""
    rows = np.arange(len(array), dtype=np.int64) + array.offset
    runs: NDArray[np.int64] = np.searchsorted(np.asarray(array.run_ends), rows, side="right")
    return runs


def _map(convert: Callable[[Any], str], array: Any, nulls: NDArray[np.bool_] | None = None) -> pa.Array:
    cells = array.tolist() if nulls is not None else array.to_pylist()
    strings = [None if cell is None else convert(cell) for cell in cells]
    return pa.array(strings, pa.string(), mask=nulls)


def _counts(array: pa.Array) -> NDArray[np.int64]:
    """Units since the epoch or midnight, or of a duration: int64[n], 0 where null."""
    counts = array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())
    return np.asarray(pc.fill_null(counts, 0)).astype(np.int64)


def _nulls(array: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(array.is_null())


def _timestamps(array: pa.Array, between: str) -> pa.Array:
    """In the column's time zone, or in UTC where that is unknown or the year is not between 1 and 9999."""
    kind, counts = array.type, _counts(array)
    low, high = YEARS_1_TO_9999
    is_near = (counts // PER_SECOND[kind.unit] >= low) & (counts // PER_SECOND[kind.unit] <= high)
    try:
        cells = pc.if_else(pa.array(is_near), array, pa.scalar(None, kind)).cast(pa.string())
    except pa.ArrowInvalid:  # the time zone
        is_near[:] = False
        cells = pa.nulls(len(array), pa.string())
    if between != " ":
        cells = pc.replace_substring(cells, " ", between)
    if is_near.all():
        return cells
    far = np.char.replace(np.datetime_as_string(counts.view(f"M8[{kind.unit}]")), "T", between)
    far = np.char.add(far, "Z") if kind.tz else far
    return pc.if_else(pa.array(is_near), cells, pa.array(far, pa.string(), mask=_nulls(array)))


def _time(unit: str, count: int) -> str:
    """A time of day; it has more than 24 hours where the sender's has."""
    minutes, seconds = divmod(abs(count), 60 * PER_SECOND[unit])
    whole, _, part = _seconds(seconds, unit).partition(".")
    digits = f"{whole:0>2}.{part}" if part else f"{whole:0>2}"
    return f"{'-' if count < 0 else ''}{minutes // 60:02}:{minutes % 60:02}:{digits}"


def _seconds(count: int, unit: str) -> str:
    """Seconds with as many digits as the unit has, such as 1.500."""
    whole, rest = divmod(abs(count), PER_SECOND[unit])
    digits = len(str(PER_SECOND[unit])) - 1
    return f"{'-' if count < 0 else ''}{whole}" + (f".{rest:0{digits}}" if digits else "")


def plain(array: pa.Array) -> pa.Array:
    """Decode a column's dictionary or run ends. Raises pyarrow's errors for types of which it cannot take values."""
    kind = array.type
    if kind in VIEWS:
        return array.cast(VIEWS[kind])
    if pa.types.is_dictionary(kind):
        return _take(plain(array.dictionary), array.indices)
    if pa.types.is_run_end_encoded(kind):
        return _take(plain(array.values), pa.array(_runs(array)))
    return array


def _take(array: pa.Array, places: pa.Array) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        return pa.ExtensionArray.from_storage(array.type, array.storage.take(places))
    return array.take(places)


def empty(kind: pa.DataType) -> pa.Array:
    """Return an array of no values: pyarrow cannot make one of every type, such as a list of UUIDs."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, empty(kind.storage_type))
    if pa.types.is_dictionary(kind):
        indices = pa.array([], kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, empty(kind.value_type), ordered=kind.ordered)
    zeros = pa.py_buffer(bytes(8))  # a list has an offset even if it is empty
    inner = [empty(kind.field(i).type) for i in range(kind.num_fields)]
    return pa.Array.from_buffers(kind, 0, [None, *[zeros] * (kind.num_buffers - 1)], children=inner)


def decode_dictionary(column: pa.Array) -> pa.Array:
    return plain(column) if pa.types.is_dictionary(column.type) else column


def has_no_dictionary_within(kind: pa.DataType) -> bool:
    """Return whether a column of this type has no dictionary once it is decoded itself."""
    try:
        return not _has_dictionary(decode_dictionary(empty(kind)).type)
    except PYARROW_ERRORS:
        return False


def _has_dictionary(kind: pa.DataType) -> bool:
    return pa.types.is_dictionary(kind) or any(map(_has_dictionary, children(kind)))


def convert(
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    change: Callable[[pa.Array], pa.Array],
    format_: str,
    named: Sequence[str],
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Convert columns: `change` returns the same type for each batch, and for types that it need not change the column.

    Raises ColumnsError for values that cannot be converted.
    """
    kinds = [change(empty(field.type)).type for field in schema]
    if kinds == schema.types and not any(map(pa.types.is_dictionary, kinds)):
        return schema, iter(batches)
    target = pa.schema([field.with_type(kind) for field, kind in zip(schema, kinds, strict=True)], schema.metadata)

    def converted() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            arrays = []
            for i, column in enumerate(batch.columns):
                try:
                    arrays.append(change(column))
                except PYARROW_ERRORS:
                    raise refusal(schema, [i], format_, named) from None
            yield pa.RecordBatch.from_arrays(arrays, schema=target)

    return target, converted()
