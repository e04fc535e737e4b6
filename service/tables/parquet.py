"""Parquet. Its table of contents stands at the end: it is read from a file, row group by row group."""

from collections.abc import Iterable, Iterator
from typing import IO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from patient.record import FIELDS
from service.records.errors import TableError, TooLarge
from service.tables import columns
from service.tables.chunk import ROWS, Chunk, Table, chunks
from service.tables.sink import Sink
from service.tables.source import PIECE, PYARROW_ERRORS, Limits, Source
from service.tables.spool import contents, spooled

GROUP = 2**17  # rows of a row group that is written
DAMAGED = "The Parquet file is damaged or cut off."


def read(source: Source, keep: columns.Keep, limits: Limits) -> Table:
    """The table, with its footer read. Raises TableError and ColumnsError; its chunks raise TableError.

    A source that can seek is read where it is, another is first copied into a temporary file.
    """
    stream = cast(IO[bytes], source) if hasattr(source, "seek") else spooled(contents(source), limits.spool)
    try:
        file, schema, header = _opened(stream, limits)
        names = columns.kept(header, keep)
    except BaseException:
        stream.close()
        raise
    kept = pa.schema([schema.field(name) for name in names])

    def parts() -> Iterator[Chunk]:
        with stream:
            batches = file.iter_batches(ROWS, columns=[*FIELDS, *names], use_threads=False)
            while True:
                try:
                    batch = next(batches, None)
                except PYARROW_ERRORS:
                    raise TableError(DAMAGED) from None
                if batch is None:
                    return
                yield from chunks(batch, kept)

    return Table(kept, parts())


def _opened(stream: IO[bytes], limits: Limits) -> tuple[pq.ParquetFile, pa.Schema, list[str]]:
    try:
        # A buffer ahead would in the end hold the whole file; without one, it is a page of each column.
        file = pq.ParquetFile(stream, pre_buffer=False, buffer_size=PIECE)
        schema, header = file.schema_arrow, file.schema_arrow.names
    except PYARROW_ERRORS:
        raise TableError(DAMAGED) from None
    if sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)) > limits.unpacked:
        raise TooLarge(f"Unpacked, the table is larger than {limits.unpacked} bytes.")
    return file, schema, header


def write(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Row groups of about GROUP rows."""
    sink, waiting, rows = Sink(), list[pa.RecordBatch](), 0
    plain = [name for name in schema.names if name != "probability"]  # hardly any value of it comes twice
    with pq.ParquetWriter(pa.PythonFile(sink, "w"), schema, use_dictionary=plain) as writer:
        for batch in batches:
            waiting.append(batch)
            rows += len(batch)
            if rows >= GROUP:
                writer.write_table(pa.Table.from_batches(waiting, schema), GROUP * 2)
                waiting, rows = [], 0
                yield sink.taken()
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting, schema), GROUP * 2)
    yield sink.taken()
