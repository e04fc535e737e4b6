"""A piece of a table, as every reader hands it on."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from patient.record import FIELDS
from service.records.errors import FieldFault

Column = NDArray[np.float64 | np.integer]
ROWS = 32_768  # in a chunk at most, where the format leaves the choice: its arrays stay in the cache


@dataclass(frozen=True, slots=True)
class Chunk:
    """Neighbouring rows.

    numbers: the 13 fields in the record's order, each float64[n], NaN = not taken, infinite = no number; or integers[n]
    kept:    n rows of the columns that pass through
    broken:  faults of rows that could not be read; their numbers mean nothing
    """

    numbers: list[Column]
    kept: pa.RecordBatch
    broken: dict[int, list[FieldFault]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers[0])


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose columns are right: the schema of those that pass through, and its rows, which can be read once."""

    kept: pa.Schema
    chunks: Iterator[Chunk]


def chunk(batch: pa.RecordBatch, kept: pa.Schema) -> Chunk:
    """A typed batch that holds the 13 fields and the kept columns, in any order."""
    others = [batch.column(name) for name in kept.names]
    # Without columns a batch forgets how many rows it has; nobody asks.
    return Chunk([numbers(batch.column(name)) for name in FIELDS], pa.RecordBatch.from_arrays(others, schema=kept))


def chunks(batch: pa.RecordBatch, kept: pa.Schema) -> Iterator[Chunk]:
    """The same in pieces of at most ROWS rows."""
    for start in range(0, len(batch), ROWS):
        yield chunk(batch.slice(start, ROWS), kept)


def merged(parts: list[Chunk]) -> Chunk:
    """Chunks one after the other, as one."""
    if len(parts) == 1:
        return parts[0]
    rows, broken = 0, dict[int, list[FieldFault]]()
    for part in parts:
        broken |= {rows + row: faults for row, faults in part.broken.items()}
        rows += len(part)
    columns = zip(*(part.numbers for part in parts), strict=True)
    others = zip(*(part.kept.columns for part in parts), strict=True)
    kept = pa.RecordBatch.from_arrays([pa.concat_arrays(column) for column in others], schema=parts[0].kept.schema)
    return Chunk([np.concatenate(column) for column in columns], kept, broken)


def numbers(column: pa.Array) -> Column:
    """A column of any type as a chunk's: null is NaN, and what PatientRecord takes for no number is infinite.

    It takes integers, floats and decimals of any width, and neither booleans nor strings. Without a copy where it can.
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
        found: Column = column.to_numpy(zero_copy_only=False)
        return found
    return np.where(column.is_null().to_numpy(zero_copy_only=False), np.nan, np.inf)
