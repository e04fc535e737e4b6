"""Read and write Arrow IPC streams, batch by batch; also read Arrow files (Feather), which contain a stream."""

import struct
from collections.abc import Iterable, Iterator

import pyarrow as pa

from service.records.errors import TableError, TooLarge
from service.tables import columns
from service.tables.buffers import OutputBuffer
from service.tables.chunk import Chunk, Table, split_batch
from service.tables.source import PYARROW_ERRORS, Limits, Source, read_exactly, read_into

IN_PLACE_BYTES = 2**16  # from which on a read goes straight into an Arrow buffer
RECORDS, DICTIONARY = 3, 2  # the types of message that have a body
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

    def read_chunks() -> Iterator[Chunk]:
        while True:
            try:
                batch = reader.read_next_batch()
                batch.validate(full=True)  # offsets and lengths come from the sender
            except StopIteration:
                break
            except PYARROW_ERRORS:
                raise TableError(DAMAGED) from None
            yield from split_batch(batch, kept)
        messages.check_end()

    return Table(kept, read_chunks())


class _Messages:
    """A file of Arrow messages for pyarrow, which reads mark, length, metadata and body one by one.

    Raises TooLarge for a message of more than `limit` bytes, received or decompressed, before memory is allocated.
    """

    closed = False

    def __init__(self, source: Source, limit: int) -> None:
        self.source, self.limit = source, limit
        self.start = read_exactly(source, len(FILE_MARK))
        self.is_file = self.start == FILE_MARK
        if self.is_file:
            self.start = b""
        self.latest = [b"", b""]
        self.buffers: list[tuple[int, int]] = []  # offset and length of each compressed buffer in the next body

    def read(self, size: int, /) -> bytes | pa.Buffer:
        """Read exactly `size` bytes. Raises TableError and TooLarge."""
        if size > self.limit:
            raise _too_large(self.limit)
        data: bytes | pa.Buffer
        if size >= IN_PLACE_BYTES:
            data = _read_buffer(self.source, size)
        else:
            data, self.start = self.start[:size], self.start[size:]
            data += read_exactly(self.source, size - len(data))
        try:
            if self.buffers:
                decompressed = sum(struct.unpack_from("<q", data, offset)[0] for offset, _ in self.buffers)
                self.buffers = []
                if decompressed > self.limit:
                    raise _too_large(self.limit)
            elif size > 4 and self.latest[0] == b"\xff" * 4:
                self.buffers = _compressed_buffers(bytes(data))
        except (struct.error, IndexError):
            raise TableError(DAMAGED) from None
        self.latest = [self.latest[1], data if size == 4 else b""]
        return data

    def check_end(self) -> None:
        """Raise TableError unless the stream ended with its mark, and the source with it."""
        if self.latest != [b"\xff" * 4, b"\0" * 4]:
            raise TableError("The Arrow stream is cut off: its end-of-stream mark is missing.")
        if not self.is_file and self.source.read(1):
            raise TableError("There is more data after the end of the Arrow stream: send one stream.")

    def close(self) -> None: ...


def _read_buffer(source: Source, size: int) -> pa.Buffer:
    """Read `size` bytes like read_exactly, with one copy less."""
    buffer = pa.allocate_buffer(size)
    view, done = memoryview(buffer).cast("B"), 0
    while done < size and (read := read_into(source, view[done:])):
        done += read
    return buffer.slice(0, done)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"An Arrow batch is larger than {limit} bytes: send smaller ones, such as 65,536 rows.")


def _compressed_buffers(message: bytes) -> list[tuple[int, int]]:
    """Offset and length of each compressed buffer in a message's metadata (org.apache.arrow.flatbuf.Message)."""
    root = struct.unpack_from("<I", message, 0)[0]
    kind, header = _field(message, root, 1), _table(message, root, 2)
    if header is None or kind is None or message[kind] not in (RECORDS, DICTIONARY):
        return []
    if message[kind] == DICTIONARY:
        header = _table(message, header, 1)
    if header is None or _table(message, header, 3) is None:
        return []
    vector = _table(message, header, 2)
    if vector is None:
        return []
    count = struct.unpack_from("<I", message, vector)[0]
    pairs = [struct.unpack_from("<qq", message, vector + 4 + 16 * i) for i in range(count)]
    return [(offset, length) for offset, length in pairs if length > 0]


def _field(message: bytes, table: int, index: int) -> int | None:
    """The offset of a table's field; None if it is absent."""
    vtable = table - struct.unpack_from("<i", message, table)[0]
    if 4 + 2 * index >= struct.unpack_from("<H", message, vtable)[0]:
        return None
    offset = struct.unpack_from("<H", message, vtable + 4 + 2 * index)[0]
    return table + offset if offset else None


def _table(message: bytes, table: int, index: int) -> int | None:
    """The offset of the table or vector that a field points to."""
    field = _field(message, table, index)
    return None if field is None else field + int(struct.unpack_from("<I", message, field)[0])


def write(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    buffer = OutputBuffer()
    with pa.ipc.new_stream(pa.PythonFile(buffer, "w"), schema) as writer:
        yield buffer.take()
        for batch in batches:
            writer.write_batch(batch)
            yield buffer.take()
    yield buffer.take()
