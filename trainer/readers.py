"""Read CSV and Parquet files as blocks of numbers, without checking ranges."""

import codecs
import csv
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from patient.record import FIELDS
from patient.table import NULL_VALUES, is_not_taken

TARGET = "target"
COLUMNS = (*FIELDS, TARGET)

BLOCK_ROWS = 65_536  # at most
MIN_LINE_BYTES = len(COLUMNS)  # of a line with a patient: a comma or a line end follows each cell
MAX_LINE_BYTES = 65_536  # so that a file without line ends is not read into memory


class DatasetError(Exception):
    """A table that cannot be used for training. The message names file, line and column, never a value."""


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring rows of a file."""

    values: NDArray[np.float64]  # [n,14], the fields and the target; NaN = missing, infinite: not a number
    broken: dict[int, str]  # rows that could not be parsed: index in `values`, which lacks their data, to the reason
    first: int  # the number of the first row, from 1: in CSV its line, in Parquet its row
    max_rows_left: int  # upper bound of the rows that follow


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file with a valid header."""

    path: Path
    max_rows: int  # upper bound
    blocks: Callable[[], Iterator[Block]]  # reads the file


def list_files(path: Path) -> list[Path]:
    """Return the file itself, or a folder's .csv and .parquet files by name, but those whose names start with . or _.

    Raises DatasetError if the folder holds none, or any other file: it might be data, left out unnoticed.
    """
    if not path.is_dir():
        return [path]
    with _reading(path):
        found = sorted(file for file in path.iterdir() if not file.name.startswith((".", "_")))
    for file in found:
        if file.suffix not in (".csv", ".parquet") or file.is_dir():
            raise DatasetError(f"{file}: neither a .csv nor a .parquet file")
    if not found:
        raise DatasetError(f"{path}: no .csv and no .parquet file in it")
    return found


def open_tables(path: Path) -> list[TableFile]:
    """Check the header of every file that `list_files` returns. Raises DatasetError."""
    return [_parquet(file) if file.suffix == ".parquet" else _csv(file) for file in list_files(path)]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn errors into one line without the library's message, which repeats values."""
    try:
        yield
    except UnicodeDecodeError:
        raise DatasetError(f"{path}: not UTF-8 text") from None
    except (OSError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise DatasetError(f"{path}: {reason or 'damaged, or not what its name says'}") from None


def _check_header(path: Path, header: list[str]) -> None:
    """Raise DatasetError. It names unknown columns by their places: without a header they are a patient's values."""
    for fault, columns in (
        ("lacks the column", [c for c in COLUMNS if c not in header]),
        ("has an unknown name for column", [str(i) for i, c in enumerate(header, 1) if c not in COLUMNS]),
        ("repeats the column", sorted({c for c in header if header.count(c) > 1})),
    ):
        if columns:
            raise DatasetError(f"{path}: the header {fault} {', '.join(columns)}")


def _parquet(path: Path) -> TableFile:
    with _reading(path), pa.parquet.ParquetFile(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
    _check_header(path, schema.names)
    is_number = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    for column in schema:
        if not any(check(column.type) for check in is_number):
            raise DatasetError(f"{path}: the column {column.name} holds {column.type}, not numbers")
    return TableFile(path, rows, partial(_parquet_blocks, path, rows))


def _parquet_blocks(path: Path, rows: int) -> Iterator[Block]:
    first = 1
    # With pre_buffer memory would grow to the whole file; without, to one compressed row group.
    with _reading(path), pa.parquet.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(BLOCK_ROWS):
            columns = [batch[name].cast(pa.float64(), safe=False) for name in COLUMNS]  # unsafe: 2**53 + 1 may round
            yield Block(_matrix(columns), {}, first, rows - (first - 1) - len(batch))
            first += len(batch)


def _matrix(columns: list[pa.Array]) -> NDArray[np.float64]:
    """Stack columns to float64[n,14], column-major, null as NaN."""
    values = np.empty((len(columns[0]), len(columns)), order="F")
    for i, column in enumerate(columns):
        values[:, i] = column.to_numpy(zero_copy_only=False)
    return values


def _csv(path: Path) -> TableFile:
    with _reading(path), path.open("rb") as file:
        line, header = 1, _line(path, file).removeprefix(codecs.BOM_UTF8)
        while header.startswith(b"#"):  # comments
            line, header = line + 1, _line(path, file)
        try:
            names = next(csv.reader([header.decode()]), [])
        except csv.Error:
            raise DatasetError(f"{path}: the header is not CSV") from None
        _check_header(path, names)
        start, size = file.tell(), path.stat().st_size
    return TableFile(path, (size - start) // MIN_LINE_BYTES, partial(_csv_blocks, path, names, start, size, line + 1))


def _line(path: Path, file: BinaryIO) -> bytes:
    line = file.readline(MAX_LINE_BYTES)
    if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
        raise DatasetError(f"{path}: a line of more than {MAX_LINE_BYTES} bytes")
    return line


def _csv_blocks(path: Path, names: list[str], start: int, size: int, first: int) -> Iterator[Block]:
    """Read complete lines: with pyarrow if every cell is a number or missing, else cell by cell."""
    with _reading(path), path.open("rb") as file:
        file.seek(start)
        while data := file.read(BLOCK_ROWS * MIN_LINE_BYTES):
            data += _line(path, file)
            left = (size - file.tell()) // MIN_LINE_BYTES
            lines = data.count(b"\n") + (not data.endswith(b"\n"))
            values = _parse_fast(data, names)
            if values is not None and len(values) == lines:  # only to pyarrow a lone carriage return ends a line
                yield Block(values, {}, first, left)
            else:
                yield Block(*_parse_cells(data, names), first, left)
            first += lines


def _parse_fast(data: bytes, names: list[str]) -> NDArray[np.float64] | None:
    """Parse lines to float64[n,14]; None if they hold anything but numbers and missing cells."""
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(data),
            pa.csv.ReadOptions(column_names=names, block_size=len(data) + 1),
            pa.csv.ParseOptions(ignore_empty_lines=False),
            pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.float64()), null_values=NULL_VALUES, include_columns=COLUMNS
            ),
        )
    except pa.ArrowInvalid:
        return None
    values = _matrix(table.columns)
    missing = [column.null_count for column in table.columns]
    # A blank line is a row of missing cells here, and a cell such as "nan(1)" is NaN: _parse_cells finds both.
    return None if missing[-1] or np.isnan(values).sum() != sum(missing) else values


def _parse_cells(data: bytes, names: list[str]) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Parse any lines to float64[n,14] and the reasons of broken rows."""
    # float() takes underscores between digits, and digits of any script; no other reader of CSV does.
    lines = data.replace(b"_", b"x").decode("ascii", "replace").removesuffix("\n").split("\n")
    values, broken = np.full((len(lines), len(names)), np.nan), dict[int, str]()
    for row, line in enumerate(lines):
        try:
            cells = next(csv.reader([line]), [])
        except csv.Error:
            broken[row] = "not a line of CSV"
            continue
        if len(cells) == len(names):
            values[row] = [_number(cell) for cell in cells]
        else:
            broken[row] = f"{len(cells)} cells, the header has {len(names)}"
    return values[:, [names.index(name) for name in COLUMNS]], broken


def _number(cell: str) -> float:
    try:
        return math.nan if is_not_taken(cell) else float(cell)
    except ValueError:
        return math.inf
