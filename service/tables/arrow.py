"""Arrow IPC streams, batch by batch; also Arrow files (Feather), which are a stream between a mark and an index."""

import struct
from collections.abc import Iterable, Iterator

import pyarrow as pa

from service.records.errors import TableError, TooLarge
from service.tables import columns
from service.tables.chunk import Chunk, Table, chunks
from service.tables.sink import Sink
from service.tables.source import PYARROW_ERRORS, Limits, Source, exactly, fill

LARGE = 2**16  # bytes that are worth the trouble of reading them into place
RECORDS, DICTIONARY = 3, 2  # kinds of message that have a body
FILE = b"ARROW1\0\0"
DAMAGED = "The Arrow stream is damaged or cut off."


def read(source: Source, keep: columns.Keep, limits: Limits) -> Table:
    """The table, with its schema read. Raises TableError and ColumnsError; its chunks raise TableError."""
    messages = _Messages(source, limits.part)
    try:
        reader = pa.ipc.open_stream(pa.PythonFile(messages, "r"))
        schema, header = reader.schema, reader.schema.names
    except PYARROW_ERRORS:
        raise TableError("Not an Arrow IPC stream.") from None
    kept = pa.schema([schema.field(name) for name in columns.kept(header, keep)])

    def parts() -> Iterator[Chunk]:
        while True:
            try:
                batch = reader.read_next_batch()
                batch.validate(full=True)  # what it says of its buffers is the sender's word
            except StopIteration:
                break
            except PYARROW_ERRORS:
                raise TableError(DAMAGED) from None
            yield from chunks(batch, kept)
        messages.check_end()

    return Table(kept, parts())


class _Messages:
    """A source of Arrow messages as pyarrow reads them: mark, length, metadata, body, each asked for by itself.

    Refuses a message before it is held, or unpacked, where that takes more than `limit` bytes.
    """

    closed = False

    def __init__(self, source: Source, limit: int) -> None:
        self.source, self.limit = source, limit
        self.start = exactly(source, len(FILE))
        self.is_file = self.start == FILE
        if self.is_file:
            self.start = b""
        self.latest = [b"", b""]
        self.buffers: list[tuple[int, int]] = []  # offset and length of the compressed buffers in the next body

    def read(self, size: int, /) -> bytes | pa.Buffer:
        """Exactly `size` bytes. Raises TableError."""
        if size > self.limit:
            raise _too_large(self.limit)
        data: bytes | pa.Buffer
        if size >= LARGE:
            data = _filled(self.source, size)
        else:
            data, self.start = self.start[:size], self.start[size:]
            data += exactly(self.source, size - len(data))
        try:
            if self.buffers:
                unpacked = sum(struct.unpack_from("<q", data, offset)[0] for offset, _ in self.buffers)
                self.buffers = []
                if unpacked > self.limit:
                    raise _too_large(self.limit)
            elif size > 4 and self.latest[0] == b"\xff" * 4:
                self.buffers = _compressed(bytes(data))
        except (struct.error, IndexError):
            raise TableError(DAMAGED) from None
        self.latest = [self.latest[1], data if size == 4 else b""]
        return data

    def check_end(self) -> None:
        """Raise TableError unless the end-of-stream mark was read, and nothing comes after it."""
        if self.latest != [b"\xff" * 4, b"\0" * 4]:
            raise TableError("The Arrow stream is cut off: its end-of-stream mark is not there.")
        if not self.is_file and self.source.read(1):
            raise TableError("After the end of the Arrow stream comes more: send one stream.")

    def close(self) -> None:
        """There is nothing to close."""


def _filled(source: Source, size: int) -> pa.Buffer:
    """What `exactly` gives, with one copy less."""
    buffer = pa.allocate_buffer(size)
    view, done = memoryview(buffer).cast("B"), 0
    while done < size and (read := fill(source, view[done:])):
        done += read
    return buffer.slice(0, done)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"An Arrow batch is larger than {limit} bytes: send smaller ones, of 65,536 rows or so.")


def _compressed(message: bytes) -> list[tuple[int, int]]:
    """The compressed buffers that a message's metadata announce: a flatbuffer, org.apache.arrow.flatbuf.Message."""
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
    """Where a table's field lies; None if it is not there."""
    vtable = table - struct.unpack_from("<i", message, table)[0]
    if 4 + 2 * index >= struct.unpack_from("<H", message, vtable)[0]:
        return None
    offset = struct.unpack_from("<H", message, vtable + 4 + 2 * index)[0]
    return table + offset if offset else None


def _table(message: bytes, table: int, index: int) -> int | None:
    """Where the table or vector lies that a field points to."""
    field = _field(message, table, index)
    return None if field is None else field + int(struct.unpack_from("<I", message, field)[0])


def write(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """One Arrow batch a batch."""
    sink = Sink()
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), schema) as writer:
        yield sink.taken()
        for batch in batches:
            writer.write_batch(batch)
            yield sink.taken()
    yield sink.taken()
