"""Read CSV and Parquet files as blocks of numbers, without checking ranges."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from patient.csv import CsvError, CsvTable, row_lines
from patient.record import FIELDS
from patient.table import MIN_FIELDS, count_fields, describe_missing, describe_unnamed, is_unnamed

TARGET = "target"
COLUMNS = (*FIELDS, TARGET)

BLOCK_ROWS = 65_536  # at most
MIN_LINE_BYTES = len(COLUMNS)  # of a line with a patient: a comma or a line end follows each cell
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
SUFFIXES = (".csv", ".csv.gz", ".csv.zst", ".parquet")
A_TABLE = ".csv, .csv.gz, .csv.zst or .parquet file"
UNKNOWN_BYTES = 2**50  # a compressed file may hold any number


class DatasetError(Exception):
    """A table that cannot be used for training. The message names file, line and column, never a value."""


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring rows of a file."""

    values: NDArray[np.float64]  # [n,14], the fields and the target; NaN = missing, infinite: not a number
    broken: dict[int, str]  # rows that could not be parsed: index in `values`, which lacks their data, to the reason
    lines: NDArray[np.int64]  # [n], the number of each row, from 1: in CSV its line, in Parquet its row
    max_rows_left: int  # upper bound of the rows that follow


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file with a valid header."""

    path: Path
    max_rows: int  # upper bound
    blocks: Callable[[], Iterator[Block]]  # reads the file
    notes: Sequence[str] = ()  # what is left out of it


def list_files(path: Path) -> list[Path]:
    """Return the file itself, or a folder's tables by name (SUFFIXES), but those whose names start with . or _.

    Raises DatasetError if the folder holds none, or any other file: it might be data, left out unnoticed.
    """
    if not path.is_dir():
        return [path]
    with _reading(path):
        found = sorted(file for file in path.iterdir() if not file.name.startswith((".", "_")))
    for file in found:
        if not file.name.endswith(SUFFIXES) or file.is_dir():
            raise DatasetError(f"{file}: not a {A_TABLE}")
    if not found:
        raise DatasetError(f"{path}: no {A_TABLE} in it")
    return found


def open_tables(path: Path) -> list[TableFile]:
    """Check the header of every file that `list_files` returns. Raises DatasetError."""
    return [_parquet(file) if file.suffix == ".parquet" else _csv(file) for file in list_files(path)]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn errors into one line without the library's message, which repeats values."""
    try:
        yield
    except CsvError as error:
        raise DatasetError(f"{path}: {error}") from None
    except (OSError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise DatasetError(f"{path}: {reason or 'damaged, or not what its name says'}") from None


def _check_header(path: Path, header: list[str]) -> None:
    """Raise DatasetError. It names unknown columns by their places: without a header they are a patient's values."""
    if count_fields(header) < MIN_FIELDS:
        raise DatasetError(f"{path}: {describe_missing(header)}")
    for fault, columns in (
        ("lacks the column", [c for c in COLUMNS if c not in header]),
        (
            "has an unknown name for column",
            [str(i) for i, c in enumerate(header, 1) if not (c in COLUMNS or is_unnamed(c))],
        ),
        ("repeats the column", [c for c in COLUMNS if header.count(c) > 1]),
    ):
        if columns:
            raise DatasetError(f"{path}: the header {fault} {', '.join(columns)}")


def _file(path: Path) -> pa.NativeFile:
    return pa.OSFile(os.fsencode(path))  # a name may be any bytes; of a str pyarrow takes UTF-8 only


def _parquet(path: Path) -> TableFile:
    with _reading(path), _file(path) as source, pa.parquet.ParquetFile(source) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
    _check_header(path, schema.names)
    is_number = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    for column in map(schema.field, COLUMNS):
        if not any(check(column.type) for check in is_number):
            raise DatasetError(f"{path}: the column {column.name} holds {column.type}, not numbers")
    return TableFile(path, rows, partial(_parquet_blocks, path, rows), describe_unnamed(schema.names))


def _parquet_blocks(path: Path, rows: int) -> Iterator[Block]:
    first = 1
    # With pre_buffer memory would grow to the whole file; without, to one compressed row group.
    with _reading(path), _file(path) as source, pa.parquet.ParquetFile(source, pre_buffer=False) as file:
        for batch in file.iter_batches(BLOCK_ROWS, columns=COLUMNS):
            # Not safe, because 2**53 + 1 may round.
            columns = [batch[name].cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) for name in COLUMNS]
            lines = np.arange(first, first + len(batch))
            first += len(batch)
            yield Block(_matrix(columns), {}, lines, rows - (first - 1))


def _matrix(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Stack columns to float64[n,14], column-major."""
    values = np.empty((len(columns[0]), len(columns)), order="F")
    for i, column in enumerate(columns):
        values[:, i] = column
    return values


def _csv(path: Path) -> TableFile:
    with _reading(path), _open(path) as file:
        table = CsvTable(file, COLUMNS)
        size = UNKNOWN_BYTES if path.suffix in COMPRESSED else path.stat().st_size
    _check_header(path, table.header)
    max_rows = (size - table.lines.size) // MIN_LINE_BYTES
    return TableFile(path, max_rows, partial(_csv_blocks, path, size), describe_unnamed(table.header))


def _open(path: Path) -> Any:
    return pa.input_stream(_file(path), COMPRESSED[path.suffix]) if path.suffix in COMPRESSED else path.open("rb")


def _csv_blocks(path: Path, size: int) -> Iterator[Block]:
    with _reading(path), _open(path) as file:
        table = CsvTable(file, COLUMNS, BLOCK_ROWS * MIN_LINE_BYTES)
        read = table.lines
        for rows in table.read_rows(use_threads=True):
            lines = row_lines(rows, table.separator, read)
            yield Block(_matrix(rows.numbers), rows.faults, lines, (size - read.size) // MIN_LINE_BYTES)
