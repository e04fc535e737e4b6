"""Chunk: the unit that readers yield and scoring consumes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from patient.record import FIELDS
from service.records.errors import FieldFault, TableError
from service.tables.source import PYARROW_ERRORS

Column = NDArray[np.float64 | np.integer]
RowFaults = dict[int, list[FieldFault]]  # by row
MAX_CHUNK_ROWS = 32_768  # where the format leaves the choice: the arrays of a chunk stay in the cache


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


def kept_schema(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """Return the columns `names` of a typed table without the sender's metadata: the writers obey what metadata say.

    Extension types that pyarrow knows, such as UUID, are types and stay. Columns may have nulls, whatever is declared.
    """
    return pa.schema([(name, schema.field(name).type) for name in names])


def split_batches(batches: Iterator[pa.RecordBatch], kept: pa.Schema, damaged: str) -> Iterator[Chunk]:
    """Yield chunks of typed batches that hold the 13 fields and the kept columns, in any order.

    Raises TableError with the message `damaged` for what pyarrow cannot read.
    """
    while True:
        try:
            batch = next(batches, None)
        except PYARROW_ERRORS:
            raise TableError(damaged) from None
        if batch is None:
            return
        for start in range(0, len(batch), MAX_CHUNK_ROWS):
            part = batch.slice(start, MAX_CHUNK_ROWS)
            # Without columns a batch loses its number of rows; nothing reads it.
            others = pa.RecordBatch.from_arrays([part.column(name) for name in kept.names], schema=kept)
            yield Chunk([_to_numbers(part.column(name)) for name in FIELDS], others)


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
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        if kind != pa.float64() and (column.null_count or not pa.types.is_integer(kind)):
            column = column.cast(pa.float64(), safe=False)  # not safe: 2**53 + 1 may round
        numbers: Column = column.to_numpy(zero_copy_only=False)
        return numbers
    return np.where(column.is_null().to_numpy(zero_copy_only=False), np.nan, np.inf)
