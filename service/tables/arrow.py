"""Read and write Arrow IPC streams, batch by batch; also read Arrow files (Feather), by the footer at their end.

Both hold the same messages: a file is read as the stream of those that its footer names.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import IO, cast

import pyarrow as pa

from patient.csv import OTHER_FORMATS
from patient.record import FIELDS
from patient.table import describe_unnamed
from service.records.errors import TableError, TooLarge
from service.tables import columns
from service.tables.chunk import Table, kept_schema, split_batches
from service.tables.source import (
    PYARROW_ERRORS,
    READ_BYTES,
    Limits,
    OutputBuffer,
    Source,
    iter_pieces,
    read_into,
    spool,
)

SCHEMA, DICTIONARY, RECORDS = 1, 2, 3  # types of message; the last two have a body
STREAM_MARK = b"\xff" * 4  # before the length of each message, but not in streams of Arrow before 0.15
END_MARK = STREAM_MARK + b"\0" * 4
FILE_MARK = b"ARROW1"  # at both ends; behind the first are two zeros
START_BYTES = 8
FOOTER_END = struct.Struct("<i6s")  # its length, and FILE_MARK
FOOTER_SCHEMA, FOOTER_DICTIONARIES, FOOTER_RECORDS = 1, 2, 3  # fields of a footer (org.apache.arrow.flatbuf.Footer)
BLOCK = struct.Struct("<qi4xq")  # of a footer: offset, bytes of metadata, bytes of body
ROW_BYTES = len(FIELDS)  # that a row counts at least: a number has a byte or more, but a column of nulls has none
DAMAGED = "The Arrow table is damaged or cut off."


def read(source: Source, keep: columns.Keep, limits: Limits) -> Table:
    """Read the schema and return the table. Raises TableError and ColumnsError; the chunks raise TableError.

    A file that is not seekable is first copied into a temporary one.
    """
    start = _read_exactly(source, START_BYTES).to_pybytes()
    _refuse_other_formats(start)
    file: IO[bytes] | None = None
    if start.startswith(FILE_MARK):
        is_seekable = hasattr(source, "seek")
        file = cast(IO[bytes], source) if is_seekable else spool(chain([start], iter_pieces(source)), limits.spool)
    try:
        messages = _Messages(
            _Pieces(_messages_in_file(file, limits.part)) if file else source, b"" if file else start, limits
        )
        try:
            reader = pa.ipc.open_stream(pa.PythonFile(messages, "r"))
            schema, header = reader.schema, reader.schema.names
        except PYARROW_ERRORS:
            raise TableError("Not an Arrow IPC stream or file.") from None
        kept = kept_schema(schema, columns.check_header(header, keep, limits.columns), keep)
    except BaseException:
        if file:
            file.close()
        raise
    notes = describe_unnamed(header, kept.names)

    def read_batches() -> Iterator[pa.RecordBatch]:
        try:
            for batch in reader:
                batch.validate(full=True)  # offsets and lengths come from the sender
                yield batch
            messages.check_end()
        finally:
            if file:
                file.close()

    return Table(kept, split_batches(read_batches(), kept, DAMAGED), notes)


def _refuse_other_formats(start: bytes) -> None:
    """Raise TableError if the first bytes are those of another format."""
    for mark, name in OTHER_FORMATS.items():
        if start.startswith(mark) and mark not in (STREAM_MARK, FILE_MARK):
            raise TableError(f"The table is not Arrow but {name}.")
    if start and not start.startswith(FILE_MARK) and all(0x20 <= byte < 0x7F or byte in b"\t\r\n" for byte in start):
        raise TableError("The table is not Arrow but text, such as CSV or JSON.")


def _messages_in_file(file: IO[bytes], limit: int) -> Iterator[bytes]:
    """Yield the messages of an Arrow file as a stream has them, in pieces: schema, dictionaries, record batches.

    Raises TableError for a damaged footer, and TooLarge for one of more than `limit` bytes.
    """
    try:
        end = file.seek(-FOOTER_END.size, 2)
        length, mark = FOOTER_END.unpack(file.read(FOOTER_END.size))
        if mark != FILE_MARK or not 0 < length <= end - START_BYTES:
            raise TableError("The Arrow file is cut off: its footer is missing.")
        if length > limit:
            raise TooLarge(f"The footer of the Arrow file is larger than {limit} bytes.")
        file.seek(end - length)
        footer = file.read(length)
        blocks = [*_blocks(footer, FOOTER_DICTIONARIES), *_blocks(footer, FOOTER_RECORDS)]
        yield _schema_message(footer)
    except (OSError, struct.error, IndexError):
        raise TableError(DAMAGED) from None
    for start, metadata, body in blocks:
        if min(start, metadata, body) < 0 or start + metadata + body > end:
            raise TableError(DAMAGED)
        file.seek(start)
        left = metadata + body
        while left:
            piece = file.read(min(left, READ_BYTES))
            left -= len(piece)
            yield piece
    yield END_MARK


def _blocks(footer: bytes, index: int) -> list[tuple[int, int, int]]:
    """Offset, bytes of metadata and bytes of body of each block in a vector of the footer."""
    vector = _table(footer, struct.unpack_from("<I", footer, 0)[0], index)
    count = struct.unpack_from("<I", footer, vector)[0] if vector else 0
    if vector + 4 + count * BLOCK.size > len(footer):
        raise TableError(DAMAGED)
    return [BLOCK.unpack_from(footer, vector + 4 + i * BLOCK.size) for i in range(count)]


def _schema_message(footer: bytes) -> bytes:
    """Return a schema message with the schema of a footer.

    The tables of a FlatBuffer refer to each other by distances, so the footer is put whole behind a new root.
    """
    root = struct.unpack_from("<I", footer, 0)[0]
    version, schema = _field(footer, root, 0), _table(footer, root, FOOTER_SCHEMA)
    # The root's place; a table of fields: its sizes, and the places of version, type, header and body length (absent);
    # the root: the distance back to that table, the distance to the header, version, type; filled up to 32 bytes.
    head = struct.pack("<I6HiIhB5x", 16, 12, 12, 8, 10, 4, 0, 12, 32 + schema - 20, _int16(footer, version), SCHEMA)
    content = head + footer + b"\0" * (-len(footer) % 8)
    return STREAM_MARK + struct.pack("<i", len(content)) + content


def _int16(message: bytes, place: int) -> int:
    return int(struct.unpack_from("<h", message, place)[0]) if place else 0


class _Pieces:
    """Pieces of bytes as a source."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces, self.rest = pieces, b""

    def read(self, size: int, /) -> bytes:
        self.rest = self.rest or next(self.pieces, b"")
        data, self.rest = self.rest[:size], self.rest[size:]
        return data


class _Messages:
    """A file of Arrow messages for pyarrow, which reads mark, length, metadata and body one by one.

    start: the first bytes of the source, which have been read already. Raises TooLarge for a message of more than
    `limits.part` bytes, received, decompressed or counted as ROW_BYTES per row, before memory is allocated.
    """

    closed = False

    def __init__(self, source: Source, start: bytes, limits: Limits) -> None:
        self.source, self.start, self.limits = source, start, limits
        self.place = "mark"  # what is read next: a mark, a length, metadata; or nothing: `end`, `source end`
        self.buffers: list[tuple[int, int]] = []  # offset and length of each compressed buffer in the next body

    def read(self, size: int, /) -> pa.Buffer:
        """Read exactly `size` bytes. Raises TableError and TooLarge."""
        self._check_size(size)
        if self.start:
            head, self.start = self.start[:size], self.start[size:]
            data = pa.py_buffer(head + _read_exactly(self.source, size - len(head)).to_pybytes())
        else:
            data = _read_exactly(self.source, size)
        try:
            if self.place == "metadata":
                message = data.to_pybytes()
                columns.check_count(_columns(message), self.limits.columns)
                self._check_size(_rows(message) * ROW_BYTES)
                self.buffers, self.place = _compressed_buffers(message), "mark"
            elif self.buffers:
                self._check_size(sum(_decompressed_size(data, *buffer) for buffer in self.buffers))
                self.buffers = []
            elif size == 4:  # bodies are longer
                self.place = self._after(data.to_pybytes())
        except (struct.error, IndexError):
            raise TableError(DAMAGED) from None
        return data

    def _after(self, word: bytes) -> str:
        """What follows a mark, or the length of the metadata; without marks, messages begin with the latter."""
        if word == STREAM_MARK and self.place == "mark":
            return "length"
        if not word and self.place == "mark":
            return "source end"
        return "end" if word == b"\0" * 4 else "metadata"

    def _check_size(self, size: int) -> None:
        if size > self.limits.part:
            raise TooLarge(
                f"An Arrow batch is larger than {self.limits.part} bytes: send smaller ones, such as 65,536 rows."
            )

    def check_end(self) -> None:
        """Raise TableError unless the stream ended with its mark and the source with it, or behind a whole message."""
        if self.place not in ("end", "source end"):
            raise TableError("The Arrow stream is cut off.")
        if self.source.read(1):
            raise TableError("There is more data after the end of the Arrow stream: send one stream.")

    def close(self) -> None: ...


def _decompressed_size(body: pa.Buffer, offset: int, length: int) -> int:
    """The size that a buffer declares before its data; -1 says that it is not compressed."""
    size = int(struct.unpack_from("<q", body, offset)[0])
    if size < -1:
        raise TableError(DAMAGED)
    return length if size == -1 else size


def _read_exactly(source: Source, size: int) -> pa.Buffer:
    """Read `size` bytes; fewer only at the end."""
    buffer = pa.allocate_buffer(size)
    view, done = memoryview(buffer).cast("B"), 0
    while done < size and (read := read_into(source, view[done:])):
        done += read
    return buffer.slice(0, done)


def _columns(message: bytes) -> int:
    """The number of columns in the metadata of a schema; 0 for other messages."""
    root = struct.unpack_from("<I", message, 0)[0]
    kind = _field(message, root, 1)
    vector = _table(message, _table(message, root, 2), 1) if kind and message[kind] == SCHEMA else 0
    return int(struct.unpack_from("<I", message, vector)[0]) if vector else 0


def _rows(message: bytes) -> int:
    """The number of rows that the metadata of a record batch declare; 0 for other messages."""
    root = struct.unpack_from("<I", message, 0)[0]
    kind = _field(message, root, 1)
    length = _field(message, _table(message, root, 2), 0) if kind and message[kind] == RECORDS else 0
    return int(struct.unpack_from("<q", message, length)[0]) if length else 0


def _compressed_buffers(message: bytes) -> list[tuple[int, int]]:
    """Offset and length of each compressed buffer in a message's metadata (org.apache.arrow.flatbuf.Message)."""
    root = struct.unpack_from("<I", message, 0)[0]
    kind, header = _field(message, root, 1), _table(message, root, 2)
    if not kind or message[kind] not in (RECORDS, DICTIONARY):
        return []
    if message[kind] == DICTIONARY:
        header = _table(message, header, 1)
    vector = _table(message, header, 2)
    if not vector or not _table(message, header, 3):
        return []
    count = struct.unpack_from("<I", message, vector)[0]
    pairs = [struct.unpack_from("<qq", message, vector + 4 + 16 * i) for i in range(count)]
    return [(offset, length) for offset, length in pairs if length > 0]


def _field(message: bytes, table: int, index: int) -> int:
    """The offset of a table's field; 0 if the field or the table is absent."""
    vtable = table - struct.unpack_from("<i", message, table)[0]
    if not table or 4 + 2 * index >= struct.unpack_from("<H", message, vtable)[0]:
        return 0
    offset = struct.unpack_from("<H", message, vtable + 4 + 2 * index)[0]
    return table + int(offset) if offset else 0


def _table(message: bytes, table: int, index: int) -> int:
    """The offset of the table or vector that a field points to; 0 if it is absent."""
    field = _field(message, table, index)
    return field + int(struct.unpack_from("<I", message, field)[0]) if field else 0


def write(schema: pa.Schema, batches: Iterable[pa.RecordBatch], _named: Sequence[str] = ()) -> Iterator[bytes]:
    buffer = OutputBuffer()
    with pa.ipc.new_stream(pa.PythonFile(buffer, "w"), schema) as writer:
        yield buffer.take()
        for batch in batches:
            writer.write_batch(batch)
            yield buffer.take()
    yield buffer.take()
