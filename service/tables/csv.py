"""CSV: a header, commas between cells, quotes around those that need them (RFC 4180); UTF-8, any line ends.

In the 13 fields the cells of patient.table.NOT_TAKEN, quoted or not, are null; in the columns that pass through only an
empty cell is. A blank line is not a row; lines before the header that begin with `# ` are notes.
"""

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
from numpy.typing import NDArray

from patient.record import FIELDS
from patient.table import BLANKS, NOT_TAKEN, NULL_VALUES
from service.records.errors import FieldFault, TableError, TooLarge
from service.tables import columns, text
from service.tables.chunk import Chunk, Column, Table
from service.tables.source import Limits, Source

LONGEST = 2**20  # bytes of a row
BLOCK = 2**20  # bytes that are parsed at once
NOTES = re.compile(rb"\A(?:(?:# [^\r\n]*)?[\r\n])*")
LINE = re.compile(rb'(?:[^"\r\n]++|"[^"]*+")*+(?:\r\n|\r|\n|\Z)')
QUOTED = re.compile(rb'"(?<![^,\r\n]")[^"]*(?:""[^"]*)*("|\Z)')  # elsewhere in a cell a quote is but a character
_NOT_TAKEN = pa.array(NOT_TAKEN)
SPECIAL = r'[",\r\n]|^$'  # what needs quotes in a cell; an empty string is not null
DECIMAL = r"^[+-]?(?:[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)$"


def read(source: Source, keep: columns.Keep, _limits: Limits) -> Table:
    """The table, with its header read. Raises TableError and ColumnsError; its chunks raise TableError."""
    blocks = _blocks(source)
    first = NOTES.sub(b"", next(blocks, b"").removeprefix(codecs.BOM_UTF8), count=1)
    line = LINE.match(first)
    if not first or not line:
        raise TableError("The first line is no header of CSV." if first else "The table is empty: it has no header.")
    try:
        header = next(csv.reader(io.StringIO(line[0].decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error):
        raise TableError("The first line is no header of CSV in UTF-8.") from None
    kept = pa.schema([(name, pa.string()) for name in columns.kept(header, keep)])
    rest = first[line.end() :]
    return Table(kept, (_chunk(block, header, kept) for part in ([rest], blocks) for block in part if block))


def _blocks(source: Source) -> Iterator[bytes]:
    """The source, cut after whole rows."""
    rest = b""
    while data := source.read(BLOCK):
        rest += data
        if end := _end(rest):
            yield rest[:end]
            rest = rest[end:]
        elif len(rest) > LONGEST:
            raise TooLarge(f"A row is longer than {LONGEST} bytes, or a quote is opened and never closed.")
    if b'"' in rest and any(not match[1] for match in QUOTED.finditer(rest)):
        raise TableError("A quote is opened and never closed.")
    if rest:
        yield rest


def _end(data: bytes) -> int:
    """Where the last whole row ends. Half a CRLF is left behind as a blank line, which is no row."""
    end = len(data)
    quoted = [match.span() for match in QUOTED.finditer(data)] if b'"' in data else []
    while True:
        end = max(data.rfind(b"\n", 0, end), data.rfind(b"\r", 0, end)) + 1
        while quoted and quoted[-1][0] >= end:
            quoted.pop()
        if not quoted or quoted[-1][1] < end:
            return end
        end = quoted[-1][0]


def _chunk(block: bytes, header: list[str], kept: pa.Schema) -> Chunk:
    if not _is_text(block):  # pyarrow would find it too, but print the bytes of a row that it skips
        raise TableError("The table is not UTF-8 text.")
    broken: dict[int, list[FieldFault]] = {}

    def skip(row: Any) -> str:
        broken[row.number - 1] = [FieldFault("", f"The row has {row.actual_columns} cells, the header {len(header)}")]
        return "skip"

    try:
        batch = _parse(block, header, pa.float64(), skip)
        numbers = [_doubles(batch.column(name)) for name in FIELDS]
    except pa.ArrowInvalid:  # somewhere in the block is a cell that is no number
        broken.clear()
        batch = _parse(block, header, pa.string(), skip)
        numbers = [_numbers(batch.column(name)) for name in FIELDS]
    others = pa.RecordBatch.from_arrays([_empty_as_null(batch.column(name)) for name in kept.names], schema=kept)
    if not broken:
        return Chunk(numbers, others)
    count = len(batch) + len(broken)
    whole = np.ones(count, np.bool_)
    whole[list(broken)] = False
    places = pa.array(np.where(whole, np.cumsum(whole) - 1, 0), mask=~whole)
    return Chunk([_spread(column, whole) for column in numbers], others.take(places), broken)


def _is_text(block: bytes) -> bool:
    try:
        return block.isascii() or bool(block.decode())
    except UnicodeDecodeError:
        return False


def _parse(block: bytes, header: list[str], kind: pa.DataType, skip: Callable[[Any], str]) -> pa.RecordBatch:
    """Parse the complete rows of a block: fields of this type, with null where not taken; other columns as text."""
    types = {name: kind if name in FIELDS else pa.string() for name in header}
    try:
        table = pv.read_csv(
            pa.BufferReader(block),
            pv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=header),
            pv.ParseOptions(newlines_in_values=b'"' in block, invalid_row_handler=skip),
            pv.ConvertOptions(column_types=types, null_values=NULL_VALUES, strings_can_be_null=False),
        )
    except pa.ArrowInvalid:
        if kind == pa.string():
            raise TableError("The table is not UTF-8 text.") from None
        raise
    return table.combine_chunks().to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], table.schema)


def _doubles(column: pa.Array) -> Column:
    found: Column = column.to_numpy(zero_copy_only=False)
    return found


def _numbers(column: pa.Array) -> Column:
    """Text as `_parse` reads it as float64, but infinite where it is not a number: the later check refuses infinity."""
    cells = pc.utf8_trim(column, BLANKS)
    is_number = pc.match_substring_regex(cells, DECIMAL)
    if pc.any(pc.invert(is_number)).as_py():
        is_null = pc.is_in(pc.utf8_lower(cells), _NOT_TAKEN)
        cells = pc.if_else(is_number, cells, pc.if_else(is_null, None, pa.scalar("inf")))
    return _doubles(cells.cast(pa.float64()))


def _empty_as_null(column: pa.Array) -> pa.Array:
    if pc.min(pc.binary_length(column)).as_py() == 0:
        return pc.if_else(pc.equal(column, ""), None, column)
    return column


def _spread(column: Column, whole: NDArray[np.bool_]) -> Column:
    out = np.full(len(whole), np.nan)
    out[whole] = column
    return out


def write(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes | pa.Buffer]:
    """The header and the rows; `missing` is one cell such as ca;thal, and null an empty one."""
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(schema.names)
    yield header.getvalue().encode()
    for batch in batches:
        parts: list[Any] = []
        for i, (field, column) in enumerate(zip(schema, batch.columns, strict=True), 1):
            end = "," if i < len(schema) else "\n"
            if field.name == "probability":
                parts.append(text.probabilities(column, after=end))
            elif field.name == "heart_disease":
                parts.append(text.booleans(column, after=end))
            else:
                parts += [_cells(column, field), end]
        yield text.joined(*parts)


def _cells(column: pa.Array, field: pa.Field) -> pa.Array:
    """A column as text, with quotes where a cell needs them."""
    if text.is_names(field.type):
        return pc.binary_join(column, ";")
    if pa.types.is_boolean(field.type) or pa.types.is_integer(field.type):
        return column.cast(pa.string())
    if pa.types.is_string(field.type):
        cells = column
    elif pa.types.is_nested(field.type) or pa.types.is_binary(field.type):
        cells = pa.array([text.as_json(value) for value in column.to_pylist()], pa.string())
    else:
        cells = column.cast(pa.string())
    special = pc.match_substring_regex(cells, SPECIAL)
    if not pc.any(special).as_py():
        return cells
    doubled = pc.replace_substring(cells, '"', '""')
    return pc.if_else(special, pc.binary_join_element_wise('"', doubled, '"', ""), cells)
