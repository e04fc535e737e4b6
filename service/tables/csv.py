"""Read and write CSV. patient/csv.py reads it; RFC 4180 in UTF-8, with a header, commas and line feeds is written.

In the 13 fields the cells of patient.table.NOT_TAKEN, quoted or not, are null; in the columns that pass through only an
empty cell is.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from patient.csv import CsvError, CsvTable, RowTooLong
from patient.table import describe_unnamed
from service.records.errors import FieldFault, TableError, TooLarge
from service.tables import columns, kept, text
from service.tables.chunk import Chunk, Table
from service.tables.source import Limits, Source

SPECIAL = r'[",\r\n]|^$'  # cells that need quotes; an empty string is not null


def read(source: Source, keep: columns.Keep, limits: Limits) -> Table:
    """Read the header and return the table. Raises TableError and ColumnsError; the chunks raise TableError."""
    with _as_table_errors():
        table = CsvTable(source, max_columns=limits.columns)
    schema = pa.schema([(name, pa.string()) for name in columns.check_header(table.header, keep, limits.columns)])
    return Table(schema, _chunks(table, schema), describe_unnamed(table.header, schema.names))


def _chunks(table: CsvTable, schema: pa.Schema) -> Iterator[Chunk]:
    with _as_table_errors():
        for rows in table.read_rows(schema.names):
            others = pa.RecordBatch.from_arrays([_empty_as_null(column) for column in rows.texts], schema=schema)
            yield Chunk([*rows.numbers], others, {row: [FieldFault("", fault)] for row, fault in rows.faults.items()})


@contextmanager
def _as_table_errors() -> Iterator[None]:
    try:
        yield
    except CsvError as error:
        raise (TooLarge if isinstance(error, RowTooLong) else TableError)(str(error)) from None


def _empty_as_null(column: pa.Array) -> pa.Array:
    if pc.min(pc.binary_length(column)).as_py() == 0:
        return pc.if_else(pc.equal(column, ""), None, column)
    return column


def write(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], named: Sequence[str] = ()
) -> Iterator[bytes | pa.Buffer]:
    """Encode the header and the rows; `missing` becomes one cell such as ca;thal, and null an empty cell.

    Nested values become JSON text. Raises ColumnsError; see Format.write.
    """
    kept.check(schema, kept.has_text, "CSV", named)
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(schema.names)
    yield header.getvalue().encode()
    for batch in batches:
        parts: list[Any] = []
        for i, (field, column) in enumerate(zip(schema, batch.columns, strict=True), 1):
            end = "," if i < len(schema) else "\n"
            if field.name == "probability":
                parts.append(text.format_probabilities(column, after=end))
            elif field.name == "heart_disease":
                parts.append(text.format_booleans(column, after=end))
            else:
                parts += [_format_cells(column, field), end]
        yield text.join_rows(*parts)


def _format_cells(column: pa.Array, field: pa.Field) -> pa.Array:
    """Format a column as text, quoted where a cell needs it."""
    kind = field.type
    if field.name == "missing":
        return pc.binary_join(column, ";")
    if kept.is_flat(kind):
        cells = kept.as_text(column).cast(pa.string())
    else:
        cells = pa.array([text.to_json(value) for value in kept.values(column)], pa.string())
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return cells
    special = pc.match_substring_regex(cells, SPECIAL)
    if not pc.any(special).as_py():
        return cells
    doubled = pc.replace_substring(cells, '"', '""')
    return pc.if_else(special, pc.binary_join_element_wise('"', doubled, '"', ""), cells)
