"""Chunk: the unit that readers yield and scoring consumes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from patient.record import FIELDS, Measurement, measurements
from service.records.errors import ColumnsError, FieldFault, TableError
from service.tables.kept import check, describe, is_flat, plain
from service.tables.source import PYARROW_ERRORS

Column = NDArray[np.float64 | np.integer]
RowFaults = dict[int, list[FieldFault]]  # by row
MAX_CHUNK_ROWS = 32_768  # where the format leaves the choice: the arrays of a chunk stay in the cache
UNREAD = (pa.lib.Type_INTERVAL_MONTHS, pa.lib.Type_INTERVAL_DAY_TIME)  # pyarrow has no arrays of these types
TYPE_WORDS = {
    **dict.fromkeys((pa.string(), pa.large_string(), pa.string_view()), "strings"),
    **dict.fromkeys((pa.binary(), pa.large_binary(), pa.binary_view()), "bytes"),
    pa.bool_(): "booleans",
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows of a table.

    numbers: the 13 fields in the record's order, each float64[n] (NaN = not taken, infinite = not a number), or
             integers[n]
    kept:    n rows of the columns that pass through
    unreadable: faults of rows that could not be read; the numbers of these rows are incomplete
    """

    numbers: list[Column]
    kept: pa.RecordBatch
    unreadable: RowFaults = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers[0])


@dataclass(frozen=True, slots=True)
class Table:
    """A table with valid columns: the schema of those that pass through, and the chunks, which can be read once.

    notes: what the sender should know of a table that is read all the same; they repeat nothing of it
    """

    kept: pa.Schema
    chunks: Iterator[Chunk]
    notes: Sequence[str] = ()


def kept_schema(schema: pa.Schema, names: Sequence[str], keep: Sequence[str]) -> pa.Schema:
    """Return the columns `names` of a typed table without the sender's metadata: the writers obey what metadata say.

    Extension types that pyarrow knows, such as UUID, are types and stay. Columns may have nulls, whatever is declared.
    Raises ColumnsError for types that cannot be read. keep: the names that the client gave
    """
    unread = [known for known in measurements() if schema.field(known.name).type.id in UNREAD]
    if unread:
        raise ColumnsError([_type_fault(known, schema.field(known.name).type) for known in unread])
    kept = pa.schema([(name, schema.field(name).type) for name in names])
    check(kept, lambda kind: kind.id not in UNREAD, "pyarrow", keep)
    return kept


def split_batches(batches: Iterator[pa.RecordBatch], kept: pa.Schema, damaged: str) -> Iterator[Chunk]:
    """Yield chunks of typed batches that hold the 13 fields and the kept columns, in any order.

    Raises TableError with the message `damaged` for what pyarrow cannot read, and ColumnsError if a field has values of
    another type than numbers in the first rows; in later ones each of them is an infinite number.
    """
    is_first = True
    while True:
        try:
            batch = next(batches, None)
        except PYARROW_ERRORS:
            raise TableError(damaged) from None
        if batch is None:
            return
        for start in range(0, len(batch), MAX_CHUNK_ROWS):
            part = batch.slice(start, MAX_CHUNK_ROWS)
            if is_first:
                _check_types(part)
                is_first = False
            # Without columns a batch loses its number of rows; nothing reads it.
            others = pa.RecordBatch.from_arrays([part.column(name) for name in kept.names], schema=kept)
            yield Chunk([_to_numbers(part.column(name)) for name in FIELDS], others)


def _check_types(batch: pa.RecordBatch) -> None:
    """Raise ColumnsError for fields whose columns hold something else than numbers and nulls."""
    faults = []
    for known in measurements():
        column = _decode(batch.column(known.name))
        if not _is_number(column.type) and column.null_count < len(column):
            faults.append(_type_fault(known, column.type))
    if faults:
        raise ColumnsError(faults)


def _type_fault(known: Measurement, kind: pa.DataType) -> FieldFault:
    words = TYPE_WORDS.get(kind, f"type {describe(kind)}")
    return FieldFault(known.name, f"{known.title} is a column of {words}; it must hold numbers")


def concat_chunks(parts: list[Chunk]) -> Chunk:
    if len(parts) == 1:
        return parts[0]
    rows, unreadable = 0, RowFaults()
    for part in parts:
        unreadable |= {rows + row: faults for row, faults in part.unreadable.items()}
        rows += len(part)
    columns = zip(*(part.numbers for part in parts), strict=True)
    others = zip(*(part.kept.columns for part in parts), strict=True)
    kept = pa.RecordBatch.from_arrays([pa.concat_arrays(column) for column in others], schema=parts[0].kept.schema)
    return Chunk([np.concatenate(column) for column in columns], kept, unreadable)


def _to_numbers(column: pa.Array) -> Column:
    """Convert a column of any type to numbers: null becomes NaN, and a value that is not a number infinite.

    Integers, floats and decimals of any width are numbers; booleans and strings are not. Copies only where it must.
    """
    column = _decode(column)
    kind = column.type
    if _is_number(kind):
        if kind != pa.float64() and (column.null_count or not pa.types.is_integer(kind)):
            column = column.cast(pa.float64(), safe=False)  # not safe: 2**53 + 1 may round
        numbers: Column = column.to_numpy(zero_copy_only=False)
        return numbers
    return np.where(column.is_null().to_numpy(zero_copy_only=False), np.nan, np.inf)


def _decode(column: pa.Array) -> pa.Array:
    """Return the column without an extension type, dictionary or run ends; what is not flat stays as it is."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return plain(column) if is_flat(column.type) else column


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
