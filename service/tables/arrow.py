"""Read and write Arrow IPC streams, batch by batch; also read Arrow files (Feather), which contain a stream."""

import struct
from collections.abc import Iterable, Iterator

import pyarrow as pa

from patient.table import describe_unnamed
from service.records.errors import TableError, TooLarge
from service.tables import columns
from service.tables.chunk import Table, split_batches
from service.tables.source import PYARROW_ERRORS, Limits, OutputBuffer, Source, read_into

RECORDS, DICTIONARY = 3, 2  # the types of message that have a body
STREAM_MARK = b"\xff" * 4  # before the length of each message
FILE_MARK = b"ARROW1\0\0"
DAMAGED = "The Arrow stream is damaged or cut off."


def read(source: Source, keep: columns.Keep, limits: Limits) -> Table:
    """Read the schema and return the table. Raises TableError and ColumnsError; the chunks raise TableError."""
    messages = _Messages(source, limits.part)
    try:
        reader = pa.ipc.open_stream(pa.PythonFile(messages, "r"))
        schema, header = reader.schema, reader.schema.names
    except PYARROW_ERRORS:
        raise TableError("Not an Arrow IPC stream.") from None
    kept = pa.schema([schema.field(name) for name in columns.check_header(header, keep)])
    notes = describe_unnamed(header, kept.names)

    def read_batches() -> Iterator[pa.RecordBatch]:
        for batch in reader:
            batch.validate(full=True)  # offsets and lengths come from the sender
            yield batch
        messages.check_end()

    return Table(kept, split_batches(read_batches(), kept, DAMAGED), notes)


class _Messages:
    """A file of Arrow messages for pyarrow, which reads mark, length, metadata and body one by one.

    Raises TooLarge for a message of more than `limit` bytes, received or decompressed, before memory is allocated.
    """

    closed = False

    def __init__(self, source: Source, limit: int) -> None:
        self.source, self.limit = source, limit
        self.start = _read_exactly(source, 4).to_pybytes()
        self.is_file = self.start == FILE_MARK[:4] and _read_exactly(source, 4).to_pybytes() == FILE_MARK[4:]
        if self.is_file:
            self.start = b""
        self.latest = [b"", b""]
        self.buffers: list[tuple[int, int]] = []  # offset and length of each compressed buffer in the next body

    def read(self, size: int, /) -> pa.Buffer:
        """Read exactly `size` bytes. Raises TableError and TooLarge."""
        self._check_size(size)
        data = pa.py_buffer(self.start) if self.start else _read_exactly(self.source, size)
        self.start = b""
        try:
            if self.buffers:
                self._check_size(sum(struct.unpack_from("<q", data, offset)[0] for offset, _ in self.buffers))
                self.buffers = []
            elif size > 4 and self.latest[0] == STREAM_MARK:
                self.buffers = _compressed_buffers(data.to_pybytes())
        except (struct.error, IndexError):
            raise TableError(DAMAGED) from None
        self.latest = [self.latest[1], data.to_pybytes() if size == 4 else b""]
        return data

    def _check_size(self, size: int) -> None:
        if size > self.limit:
            raise TooLarge(f"An Arrow batch is larger than {self.limit} bytes: send smaller ones, such as 65,536 rows.")

    def check_end(self) -> None:
        """Raise TableError unless the stream ended with its mark, and the source with it."""
        if self.latest != [STREAM_MARK, b"\0" * 4]:
            raise TableError("The Arrow stream is cut off: its end-of-stream mark is missing.")
        if not self.is_file and self.source.read(1):
            raise TableError("There is more data after the end of the Arrow stream: send one stream.")

    def close(self) -> None: ...


def _read_exactly(source: Source, size: int) -> pa.Buffer:
    """Read `size` bytes; fewer only at the end."""
    buffer = pa.allocate_buffer(size)
    view, done = memoryview(buffer).cast("B"), 0
    while done < size and (read := read_into(source, view[done:])):
        done += read
    return buffer.slice(0, done)


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


def write(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    buffer = OutputBuffer()
    with pa.ipc.new_stream(pa.PythonFile(buffer, "w"), schema) as writer:
        yield buffer.take()
        for batch in batches:
            writer.write_batch(batch)
            yield buffer.take()
    yield buffer.take()
