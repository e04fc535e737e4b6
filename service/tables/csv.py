"""Read and write CSV: RFC 4180 with a header, in UTF-8, with any line ends.

In the 13 fields the cells of patient.table.NOT_TAKEN, quoted or not, are null; in the columns that pass through only an
empty cell is. A blank line is not a row; lines before the header that begin with `# ` are notes.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv

from patient.record import FIELDS
from patient.table import BLANKS, NOT_TAKEN, NULL_VALUES
from service.records.errors import NUMBER, FieldFault, TableError, TooLarge
from service.tables import columns, text
from service.tables.chunk import Chunk, Column, RowFaults, Table
from service.tables.source import Limits, Source

MAX_ROW_BYTES = 2**20
BLOCK_BYTES = 2**20  # parsed at once
NOTES = re.compile(rb"\A(?:(?:# [^\r\n]*)?[\r\n])*")
LINE = re.compile(rb'(?:[^"\r\n]++|"[^"]*+")*+(?:\r\n|\r|\n|\Z)')
QUOTED = re.compile(rb'"(?<![^,\r\n]")[^"]*(?:""[^"]*)*("|\Z)')  # inside a cell a quote is an ordinary character
SPECIAL = r'[",\r\n]|^$'  # cells that need quotes; an empty string is not null
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars", " ": "spaces"}
OTHER_FORMATS = {
    b"\x1f\x8b": "compressed by gzip: say so in Content-Encoding, or by the file name's end .gz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: say so in Content-Encoding, or by the file name's end .zst",
    b"PK\x03\x04": "a zip archive, or a workbook (.xlsx): save it as CSV",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\xff\xff\xff\xff": "an Arrow stream",
    codecs.BOM_UTF16_LE: "UTF-16 text: save it as UTF-8",
    codecs.BOM_UTF16_BE: "UTF-16 text: save it as UTF-8",
}
DECIMAL = r"^[+-]?(?:[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)$"


def read(source: Source, keep: columns.Keep, _limits: Limits) -> Table:
    """Read the header and return the table. Raises TableError and ColumnsError; the chunks raise TableError."""
    blocks = _blocks(source)
    first = NOTES.sub(b"", next(blocks, b"").removeprefix(codecs.BOM_UTF8), count=1)
    line = LINE.match(first)
    if not first or not line:
        raise TableError("The first line is not a CSV header." if first else "The table is empty: it has no header.")
    try:
        header = next(csv.reader(io.StringIO(line[0].decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error):
        raise TableError("The first line is not a CSV header in UTF-8.") from None
    header = [known if (known := name.strip().lower()) in FIELDS else name for name in header]
    if columns.count_fields(header) < len(FIELDS):
        _refuse_other_dialects(line[0].decode(), header)
    kept = pa.schema([(name, pa.string()) for name in columns.check_header(header, keep)])
    rest = first[line.end() :]
    return Table(kept, (_chunk(block, header, kept) for part in ([rest], blocks) for block in part if block))


def _refuse_other_dialects(line: str, header: list[str]) -> None:
    """Raise TableError if an incomplete header is due to missing line ends or to separators other than commas."""
    numbers = sum(bool(NUMBER.fullmatch(cell)) for cell in header)
    if numbers >= columns.MIN_FIELDS and len(header) > 1.5 * len(FIELDS) and not line.endswith(("\r", "\n")):
        raise TableError("The table has no line ends. `curl -d` removes them; `curl --data-binary` keeps them.")
    if columns.count_fields(header) >= columns.MIN_FIELDS:
        return
    commas = line.count(",")
    for separator, name in SEPARATORS.items():
        cells = [cell.strip(' "\r\n').lower() for cell in line.split(separator)]
        if columns.count_fields(cells) >= columns.MIN_FIELDS or len(cells) >= len(FIELDS) > commas + 1:
            raise TableError(f"The columns are separated by {name}, not by commas.")


def _blocks(source: Source) -> Iterator[bytes]:
    """Yield the source in blocks of whole rows."""
    rest, is_first = b"", True
    while data := source.read(BLOCK_BYTES):
        if is_first:
            _refuse_other_formats(data)
            is_first = False
        rest += data
        if end := _end_of_rows(rest):
            yield rest[:end]
            rest = rest[end:]
        elif len(rest) > MAX_ROW_BYTES:
            raise TooLarge(f"A row is longer than {MAX_ROW_BYTES} bytes, or a quote is never closed.")
    if b'"' in rest and any(not match[1] for match in QUOTED.finditer(rest)):
        raise TableError("A quote is never closed.")
    if rest:
        yield rest


def _refuse_other_formats(data: bytes) -> None:
    for mark, name in OTHER_FORMATS.items():
        if data.startswith(mark):
            raise TableError(f"The table is not CSV but {name}.")


def _end_of_rows(data: bytes) -> int:
    """Return where the last complete row ends. Half of a CRLF remains as a blank line, which is skipped."""
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
    try:
        if not block.isascii():  # pyarrow would also notice, but would print the bytes of a skipped row
            block.decode()
        try:
            batch, unreadable = _parse(block, header, pa.float64())
        except pa.ArrowInvalid:  # a cell of the block is not a number
            batch, unreadable = _parse(block, header, pa.string())
    except (UnicodeDecodeError, pa.ArrowInvalid):
        raise TableError("The table is not UTF-8 text.") from None
    others = pa.RecordBatch.from_arrays([_empty_as_null(batch.column(name)) for name in kept.names], schema=kept)
    return Chunk([_numbers(batch.column(name)) for name in FIELDS], others, unreadable)


def _parse(block: bytes, header: list[str], kind: pa.DataType) -> tuple[pa.RecordBatch, RowFaults]:
    """Parse the complete rows of a block: fields of this type, with null where not taken; other columns as text.

    A row with too many or too few cells is null, and its fault is returned.
    """
    unreadable: RowFaults = {}

    def skip(row: Any) -> str:
        detail = f"The row has {row.actual_columns} cells, the header {len(header)}"
        unreadable[row.number - 1] = [FieldFault("", detail)]
        return "skip"

    types = {name: kind if name in FIELDS else pa.string() for name in header}
    table = pv.read_csv(
        pa.BufferReader(block),
        pv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=header),
        pv.ParseOptions(newlines_in_values=b'"' in block, invalid_row_handler=skip),
        pv.ConvertOptions(column_types=types, null_values=NULL_VALUES, strings_can_be_null=False),
    )
    batch = table.combine_chunks().to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], table.schema)
    if unreadable:
        is_whole = np.ones(len(batch) + len(unreadable), np.bool_)
        is_whole[list(unreadable)] = False
        batch = batch.take(pa.array(np.where(is_whole, np.cumsum(is_whole) - 1, 0), mask=~is_whole))
    return batch, unreadable


def _numbers(column: pa.Array) -> Column:
    """Convert a field to float64: NaN where not taken, infinite where not a number, which the later check refuses."""
    if pa.types.is_string(column.type):
        cells = pc.utf8_trim(column, BLANKS)
        is_number = pc.match_substring_regex(cells, DECIMAL)
        if pc.any(pc.invert(is_number)).as_py():
            is_null = pc.is_in(pc.utf8_lower(cells), pa.array(NOT_TAKEN))
            cells = pc.if_else(is_number, cells, pc.if_else(is_null, None, pa.scalar("inf")))
        column = cells.cast(pa.float64())
    numbers: Column = column.to_numpy(zero_copy_only=False)
    return numbers


def _empty_as_null(column: pa.Array) -> pa.Array:
    if pc.min(pc.binary_length(column)).as_py() == 0:
        return pc.if_else(pc.equal(column, ""), None, column)
    return column


def write(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes | pa.Buffer]:
    """Encode the header and the rows; `missing` becomes one cell such as ca;thal, and null an empty cell."""
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
    if pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
        return pc.binary_join(column, ";")
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        cells = pa.array([text.to_json(value) for value in column.to_pylist()], pa.string())
    else:
        cells = column.cast(pa.string())
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return cells
    special = pc.match_substring_regex(cells, SPECIAL)
    if not pc.any(special).as_py():
        return cells
    doubled = pc.replace_substring(cells, '"', '""')
    return pc.if_else(special, pc.binary_join_element_wise('"', doubled, '"', ""), cells)
