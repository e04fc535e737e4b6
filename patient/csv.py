"""Read CSV tables of patients: their dialect and header, and then their rows in blocks, checked for their form only.

The service, `score` and the trainer read CSV by this module. docs/tables.md lists the dialects. No error repeats
anything of a table, because its first line may be a patient's.
"""

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
from numpy.typing import NDArray

from patient.record import FIELDS
from patient.table import BLANKS, MIN_FIELDS, NOT_TAKEN, NULL_VALUES, count_fields, is_not_taken

MAX_ROW_BYTES = 2**20  # also of the lines before the header
BLOCK_BYTES = 2**20  # read and parsed at once
MAX_COLUMNS = 2**14  # as wide as a sheet of Excel; each takes memory, also if it is empty
SEPARATORS = (",", ";", "\t")
OTHER_SEPARATORS = {"|": "vertical bars", " ": "spaces"}
SAVE_AS_UTF_8 = "save it as UTF-8, in Excel as `CSV UTF-8`"
OTHER_FORMATS = {
    b"\x1f\x8b": "compressed by gzip: say so in Content-Encoding, or by the file name's end .gz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: say so in Content-Encoding, or by the file name's end .zst",
    b"PK\x03\x04": "a zip archive, or a workbook (.xlsx): save it as CSV",
    b"\xd0\xcf\x11\xe0": "a workbook (.xls): save it as CSV",
    b"PAR1": "a Parquet file",
    b"FEA1": "a Feather file of version 1: write version 2, which is an Arrow file",
    b"ARROW1": "an Arrow file",
    b"\xff\xff\xff\xff": "an Arrow stream",
    codecs.BOM_UTF32_LE: f"UTF-32 text: {SAVE_AS_UTF_8}",
    codecs.BOM_UTF32_BE: f"UTF-32 text: {SAVE_AS_UTF_8}",
    codecs.BOM_UTF16_LE: f"UTF-16 text: {SAVE_AS_UTF_8}",
    codecs.BOM_UTF16_BE: f"UTF-16 text: {SAVE_AS_UTF_8}",
}
MARK_BYTES = max(map(len, OTHER_FORMATS))
UTF_16 = re.compile(rb"[^\0]\0[^\0]\0|\0[^\0]\0[^\0]")  # the first characters of ASCII text, without a byte order mark
NOT_CP1252 = b"\x81\x8d\x8f\x90\x9d"
LINE_END, LINE_ENDS = re.compile(rb"\r\n|\r|\n"), re.compile(rb"[\r\n]+")
# Lines before the header: notes, what tells Excel the separator, and lines without content.
NOTE = re.compile(rb'(?:# [^\r\n]*|#[^\r\n,;\t]*|"?sep=[^\r\n]"?[,;\t]*|[,;\t ]*)[\r\n]*', re.IGNORECASE)
REST_OF_QUOTED = r'[^"]*(?:""[^"]*)*("|\Z)'
DECIMAL = r"^[+-]?(?:[0-9]+{0}?[0-9]*(?:[eE][+-]?[0-9]+)?|{0}[0-9]+(?:[eE][+-]?[0-9]+)?)$"


class CsvError(Exception):
    """A table that is not CSV as it is read here. The message is a sentence."""


class RowTooLong(CsvError):
    """A row has more than MAX_ROW_BYTES, or the header more columns than the limit."""


class Source(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; b"" at the end."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive rows of a table.

    numbers: the known columns, each float64[n]: NaN = not taken, infinite = not a number
    texts:   the columns that were asked for, each string[n]
    faults:  the rows that could not be read, and why; their numbers and texts are null
    content: the bytes of these rows, with blank lines
    """

    numbers: Sequence[NDArray[np.float64]]
    texts: list[pa.Array]
    faults: dict[int, str]
    content: bytes


class LineCounter:
    """The number of line ends and bytes in pieces of a table; both halves of a CRLF are one, even in two pieces."""

    def __init__(self) -> None:
        self.count, self.size, self.ends_in_cr = 0, 0, False

    def add(self, content: bytes) -> None:
        self.size += len(content)
        self.count += content.count(b"\n") - (self.ends_in_cr and content.startswith(b"\n"))
        if b"\r" in content:
            self.count += content.count(b"\r") - content.count(b"\r\n")
        self.ends_in_cr = content.endswith(b"\r") if content else self.ends_in_cr


class CsvTable:
    """A CSV table whose header has been read: the names of its columns, and its rows, which can be read once.

    header: the names, trimmed, and in lower case if they are known
    lines: of the header and what stands before it
    """

    def __init__(
        self,
        source: Source,
        known: Sequence[str] = FIELDS,
        block_bytes: int = BLOCK_BYTES,
        max_columns: int = MAX_COLUMNS,
    ) -> None:
        """Read up to the header. `known`: names of columns that hold numbers, the first one never missing.

        Raises CsvError.
        """
        self.known, self.reader = known, _Reader(source, block_bytes)
        line = self.reader.read_header()
        self.lines = self.reader.lines
        try:
            self.separator, self.header = _split_header(line.decode(), known)
        except UnicodeDecodeError as error:
            raise _not_utf_8(error) from None
        _refuse_other_dialects(line.decode(), self.header)
        if len(self.header) > max_columns:
            raise RowTooLong(f"The table has more than {max_columns} columns.")

    def read_rows(self, texts: Sequence[str] = (), use_threads: bool = False) -> Iterator[Rows]:
        """Yield all rows, without the columns that are neither known nor in `texts`. Raises CsvError.

        The header must have each of these columns once.
        """
        parser = _Parser(self, texts, use_threads)
        for block in self.reader.read_blocks(self.separator):
            yield parser.parse(block)


class _Reader:
    """Divide the bytes of a table into the lines before the header, the header, and blocks of whole rows."""

    def __init__(self, source: Source, block_bytes: int = BLOCK_BYTES) -> None:
        self.source, self.block_bytes = source, block_bytes
        self.buffer = bytearray()
        self.lines = LineCounter()

    def read_header(self) -> bytes:
        """Return the first line that is no note. Raises CsvError."""
        while len(self.buffer) < MARK_BYTES and self._fill():
            pass
        _refuse_other_formats(self.buffer)
        self.buffer = self.buffer.removeprefix(codecs.BOM_UTF8)
        self._skip_notes()
        scanner = _RowScanner("".join(SEPARATORS))
        while True:
            for begin, stop in scanner.outside_quotes(self.buffer):
                if found := LINE_END.search(self.buffer, begin, stop):
                    return self._take(found.end())
            if len(self.buffer) > MAX_ROW_BYTES:
                detail = "the line ends are missing (`curl -d` removes them), or a quote is never closed"
                raise RowTooLong(f"The first line is longer than {MAX_ROW_BYTES} bytes: {detail}.")
            if not self._fill():
                return self._take(len(self.buffer))

    def read_blocks(self, separator: str) -> Iterator[bytes]:
        """Yield blocks of whole rows. Half of a CRLF remains as a blank line. Raises CsvError."""
        scanner = _RowScanner(separator)
        while True:
            if end := scanner.end_of_rows(self.buffer):
                yield bytes(memoryview(self.buffer)[:end])
                del self.buffer[:end]
            elif len(self.buffer) > MAX_ROW_BYTES:
                raise RowTooLong(f"A row is longer than {MAX_ROW_BYTES} bytes, or a quote is never closed.")
            if not self._fill():
                break
        if scanner.is_quote_open(self.buffer):
            raise CsvError("A quote is never closed.")
        if self.buffer:
            yield bytes(self.buffer)

    def _skip_notes(self) -> None:
        looked = skipped = 0
        while True:
            while not (found := LINE_ENDS.search(self.buffer, looked)):
                looked = len(self.buffer)
                if looked > MAX_ROW_BYTES or not self._fill():
                    break
            end = found.end() if found else len(self.buffer)
            if not NOTE.fullmatch(self.buffer, 0, end):
                return
            looked, skipped = 0, skipped + end
            if skipped > MAX_ROW_BYTES:
                raise CsvError(f"The table has no header in its first {MAX_ROW_BYTES} bytes.")
            if not found:
                raise CsvError("The table is empty: it has no header.")
            self._take(end)

    def _fill(self) -> bool:
        """Read more, and return whether there was more."""
        data = self.source.read(self.block_bytes)
        self.buffer += data
        return bool(data)

    def _take(self, end: int) -> bytes:
        """Remove lines from the buffer, and count them."""
        taken = bytes(self.buffer[:end])
        del self.buffer[:end]
        self.lines.add(taken)
        return taken


def row_lines(rows: Rows, separator: str, lines: LineCounter) -> NDArray[np.int64]:
    """Return the line on which each row begins, int64[n], and add the rows to `lines`, which counted those before."""
    before, count = copy(lines), len(rows.numbers[0])
    lines.add(rows.content)
    is_cut_off = not rows.content.endswith((b"\r", b"\n"))
    if lines.count - before.count + is_cut_off == count:  # there are no blank lines, and no line ends in quotes
        return np.arange(before.count + 1, before.count + 1 + count)
    found: list[int] = []
    for match in re.finditer(_closed(separator, r"\r\n") + rb"(?:\r\n|\r|\n|\Z)", rows.content):
        if match[0].strip(f"{separator}{BLANKS}\r\n".encode()):
            found.append(before.count + 1)
        before.add(match[0])
    return np.array(found, np.int64)


def _closed(separators: str, without: str = "") -> bytes:
    """Return a pattern of text, in which quotes open and close cells, without some characters outside quotes."""
    before = rf"[^{separators}\r\n]"  # a quote behind it is an ordinary character of a cell
    return rf'(?:[^"{without}]++|"(?<={before}")|"[^"]*+(?:""[^"]*+)*+")*+'.encode()


class _RowScanner:
    """Find the ends of rows in a buffer that grows at its end, looking at each byte once, however they arrive."""

    def __init__(self, separators: str) -> None:
        self.quoted = re.compile(rf'"(?<![^{separators}\r\n]"){REST_OF_QUOTED}'.encode())
        self.rest_of_quoted = re.compile(REST_OF_QUOTED.encode())
        self.closed = re.compile(_closed(separators))
        self.start = 0  # of what has not been looked at
        self.is_open = False  # whether it begins in a quoted cell

    def outside_quotes(self, buffer: bytearray) -> list[tuple[int, int]]:
        """Return the parts outside quotes of what has been added to the buffer."""
        if self._in_quotes(buffer):
            return []
        start, end = self.start, len(buffer)
        self.start = end
        if buffer.find(b'"', start) < 0:
            return [(start, end)]
        matches = [*self.quoted.finditer(buffer, start)]
        edges = [start, *(edge for match in matches for edge in match.span()), end]
        if matches and self._stays_open(matches[-1], end):
            edges = edges[:-2]
        return [*zip(edges[::2], edges[1::2], strict=True)]

    def end_of_rows(self, buffer: bytearray) -> int:
        """Return where the last complete row ends, 0 if none does; the caller removes these rows from the buffer."""
        end = 0
        if not self._in_quotes(buffer) and buffer.find(b'"', self.start) >= 0:
            # In most tables the last line end is outside quotes. This finds out faster than `outside_quotes` does.
            last = _last_line_end(buffer, self.start, len(buffer))
            if last and self.closed.match(buffer, self.start, last - 1).end() == last - 1:  # type: ignore[union-attr]
                end = self.start = last
        for begin, stop in reversed(self.outside_quotes(buffer)):
            if found := _last_line_end(buffer, begin, stop):
                end = found
                break
        self.start -= end
        return end

    def is_quote_open(self, buffer: bytearray) -> bool:
        """Return whether a cell's second quote is missing at the end of the table."""
        return self.is_open and self.start == len(buffer)

    def _in_quotes(self, buffer: bytearray) -> bool:
        """Look for the end of a quoted cell that has begun earlier; return whether it is still missing."""
        if self.is_open:
            match = self.rest_of_quoted.match(buffer, self.start)
            assert match  # of any text
            if not self._stays_open(match, len(buffer)):
                self.start = match.end()
        return self.is_open

    def _stays_open(self, match: re.Match[bytes], end: int) -> bool:
        """Whether the cell may continue: a quote at the end of the buffer closes it, or is the first half of two."""
        self.is_open = match.end() == end
        if self.is_open:
            self.start = end - len(match[1])
        return self.is_open


def _last_line_end(buffer: bytearray, start: int, stop: int) -> int:
    """Return the place behind the last line end, or 0."""
    return max(buffer.rfind(b"\n", start, stop), buffer.rfind(b"\r", start, stop)) + 1


class _Parser:
    """Parse blocks of whole rows of a table."""

    def __init__(self, table: CsvTable, texts: Sequence[str], use_threads: bool) -> None:
        self.separator, self.use_threads = table.separator, use_threads
        self.numbers, self.texts = list(table.known), list(texts)
        names = {*table.known, *texts}
        # Names that are not asked for may be doubled or empty, so they are replaced.
        self.header = [name if name in names else f"\0{i}" for i, name in enumerate(table.header)]
        first = min(map(self.header.index, names))
        # Behind the first named column, a value without a name tells that cells have moved, as by a decimal comma.
        self.must_be_empty = [i for i, name in enumerate(self.header) if i > first and name not in names]
        self.includes = [*self.numbers, *self.texts, *(self.header[i] for i in self.must_be_empty)]
        separator = table.separator.encode()
        self.points = "." if table.separator == "," else ".,"
        self.decimal = DECIMAL.format(f"[{self.points}]")
        self.blank_rows = re.compile(
            rb'("(?<![^%b\r\n]")[^"]*(?:""[^"]*)*")|(?:\A|(?<=[\r\n]))[%b \t]++(?=[\r\n]|\Z)' % (separator, separator)
        )

    def parse(self, block: bytes) -> Rows:
        """Parse complete rows. Raises CsvError."""
        rows = self._parse(block, block)
        # A row of separators only has no number in its first field, or another number of cells than the header.
        if rows.faults or np.isnan(rows.numbers[0]).any():
            content = self.blank_rows.sub(rb"\1", block)
            if len(content) < len(block):
                return self._parse(content or b"\n", block)  # pyarrow refuses a table without a line
        return rows

    def _parse(self, content: bytes, block: bytes) -> Rows:
        try:
            if not content.isascii():  # pyarrow would also notice, but would print the bytes of a skipped row
                content.decode()
            try:
                batch, faults = self._read(content, pa.float64(), self.use_threads)
                numbers = [column.to_numpy(zero_copy_only=False) for column in batch.columns[: len(self.numbers)]]
                is_exact = b"(" not in content or self._has_only_known_nulls(batch, numbers)
            except pa.ArrowInvalid:  # a cell of the block is not a number
                is_exact = False
            if not is_exact:
                batch, faults = self._read(content, pa.string())
                numbers = [self._to_numbers(column) for column in batch.columns[: len(self.numbers)]]
        except UnicodeDecodeError as error:
            raise _not_utf_8(error) from None
        except pa.ArrowInvalid:
            raise CsvError("The table is not CSV in UTF-8.") from None
        texts = batch.columns[len(self.numbers) : len(self.numbers) + len(self.texts)]
        for i, column in zip(self.must_be_empty, batch.columns[len(self.numbers) + len(self.texts) :], strict=True):
            for row in _rows_with_content(column):
                faults.setdefault(row, f"Column {i + 1} has no name in the header, but the row has a value there")
        return Rows(numbers, texts, faults, block)

    def _read(
        self, content: bytes, kind: pa.DataType, use_threads: bool = False
    ) -> tuple[pa.RecordBatch, dict[int, str]]:
        """Parse to numbers of this type, with null where not taken, and text; and the faults of null rows.

        With threads, pyarrow does not number rows, so any row with a fault raises ArrowInvalid.
        """
        faults: dict[int, str] = {}

        def skip(row: Any) -> str:
            faults[row.number - 1] = f"The row has {row.actual_columns} cells, the header {len(self.header)}"
            return "skip"

        types = {name: kind if name in self.numbers else pa.string() for name in self.includes}
        point = self.points[-1] if self.points[-1].encode() in content else "."
        table = pv.read_csv(
            pa.BufferReader(content),
            pv.ReadOptions(use_threads=use_threads, block_size=len(content) + 1, column_names=self.header),
            pv.ParseOptions(
                delimiter=self.separator,
                newlines_in_values=b'"' in content,
                invalid_row_handler=None if use_threads else skip,
            ),
            pv.ConvertOptions(
                column_types=types,
                include_columns=self.includes,
                null_values=NULL_VALUES,
                strings_can_be_null=False,
                decimal_point=point,
            ),
        )
        batch = table.combine_chunks().to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], table.schema)
        if faults:
            is_whole = np.ones(len(batch) + len(faults), np.bool_)
            is_whole[list(faults)] = False
            batch = batch.take(pa.array(np.where(is_whole, np.cumsum(is_whole) - 1, 0), mask=~is_whole))
        return batch, faults

    @staticmethod
    def _has_only_known_nulls(batch: pa.RecordBatch, numbers: list[NDArray[np.float64]]) -> bool:
        """Whether each NaN was one of NULL_VALUES: pyarrow also reads nan(1) as NaN."""
        return all(
            column.null_count == np.count_nonzero(np.isnan(cells))
            for column, cells in zip(batch.columns, numbers, strict=False)
        )

    def _to_numbers(self, column: pa.Array) -> NDArray[np.float64]:
        """Convert text to float64[n]: NaN where not taken, infinite where not a number."""
        cells = pc.utf8_trim(column, BLANKS)
        is_number = pc.match_substring_regex(cells, self.decimal)
        if pc.any(pc.invert(is_number)).as_py():
            is_null = pc.is_in(pc.utf8_lower(cells), pa.array(NOT_TAKEN))
            cells = pc.if_else(is_number, cells, pc.if_else(is_null, None, pa.scalar("inf")))
        if "," in self.points:
            cells = pc.replace_substring(cells, ",", ".")
        numbers: NDArray[np.float64] = cells.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return numbers


def _rows_with_content(column: pa.Array) -> list[int]:
    if not pc.max(pc.binary_length(column)).as_py():
        return []
    is_empty = pc.is_in(pc.utf8_lower(pc.utf8_trim(column, BLANKS)), pa.array([*NOT_TAKEN, None], pa.string()))
    rows: list[int] = np.flatnonzero(~is_empty.to_numpy(zero_copy_only=False)).tolist()
    return rows


def _split_header(line: str, known: Collection[str]) -> tuple[str, list[str]]:
    """Return the separator that gives most known names, or else most cells, and the names. Raises CsvError."""
    found: list[tuple[tuple[int, int], str, list[str]]] = []
    known = frozenset(known)
    for separator in SEPARATORS:
        try:
            cells = next(csv.reader(io.StringIO(line, newline=""), delimiter=separator, strict=True))
        except csv.Error:
            continue
        stripped = [cell.strip() for cell in cells]
        names = [name.lower() if name.lower() in known else name for name in stripped]
        found.append(((len(known.intersection(names)), len(names)), separator, names))
    if not found:
        raise CsvError("The first line is not a CSV header.")
    _, separator, names = max(found, key=lambda one: one[0])  # the first of equals
    return separator, names


def _refuse_other_formats(data: bytes | bytearray) -> None:
    for mark, name in OTHER_FORMATS.items():
        if data.startswith(mark):
            raise CsvError(f"The table is not CSV but {name}.")
    if UTF_16.match(data):
        raise CsvError(f"The table is not CSV but UTF-16 text: {SAVE_AS_UTF_8}.")


def _refuse_other_dialects(line: str, header: list[str]) -> None:
    """Raise CsvError if an incomplete header is due to missing line ends or to separators that are not read."""
    if count_fields(header) >= len(FIELDS):
        return
    numbers = sum(is_not_taken(cell) or bool(re.fullmatch(DECIMAL.format("[.,]"), cell)) for cell in header)
    if numbers >= MIN_FIELDS and len(header) > 1.5 * len(FIELDS) and not line.endswith(("\r", "\n")):
        raise CsvError("The table has no line ends. `curl -d` removes them; `curl --data-binary` keeps them.")
    if count_fields(header) >= MIN_FIELDS:
        return
    for separator, name in OTHER_SEPARATORS.items():
        cells = [cell.strip(' "\r\n').lower() for cell in line.split(separator)]
        if count_fields(cells) >= MIN_FIELDS or len(cells) >= len(FIELDS) > len(header):
            raise CsvError(f"The columns are separated by {name}, not by commas, semicolons or tabs.")


def _not_utf_8(error: UnicodeDecodeError) -> CsvError:
    is_cp1252 = error.object[error.start] not in NOT_CP1252
    guess = " but probably Windows-1252 or Latin-1" if is_cp1252 else ""
    return CsvError(f"The table is not UTF-8 text{guess}: {SAVE_AS_UTF_8}.")
