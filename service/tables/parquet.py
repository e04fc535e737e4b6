"""Read and write Parquet, row group by row group. The metadata are at the end, so reading needs a seekable file."""

from collections.abc import Iterable, Iterator
from typing import IO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from patient.record import FIELDS
from patient.table import describe_unnamed
from service.records.errors import TableError, TooLarge
from service.tables import columns
from service.tables.chunk import MAX_CHUNK_ROWS, Chunk, Table, kept_schema, split_batches
from service.tables.source import PYARROW_ERRORS, READ_BYTES, Limits, OutputBuffer, Source, iter_pieces, spool

GROUP_ROWS = 2**17  # of a row group that is written
DAMAGED = "The Parquet file is damaged or cut off."


def read(source: Source, keep: columns.Keep, limits: Limits) -> Table:
    """Read the footer and return the table. Raises TableError and ColumnsError; the chunks raise TableError.

    A seekable source is read in place; any other is first copied into a temporary file.
    """
    stream = cast(IO[bytes], source) if hasattr(source, "seek") else spool(iter_pieces(source), limits.spool)
    try:
        file, schema, header = _open(stream, limits)
        names = columns.check_header(header, keep)
    except BaseException:
        stream.close()
        raise
    kept = kept_schema(schema, names)

    def read_chunks() -> Iterator[Chunk]:
        with stream:
            batches = file.iter_batches(MAX_CHUNK_ROWS, columns=[*FIELDS, *names], use_threads=False)
            yield from split_batches(batches, kept, DAMAGED)

    return Table(kept, read_chunks(), describe_unnamed(header, kept.names))


def _open(stream: IO[bytes], limits: Limits) -> tuple[pq.ParquetFile, pa.Schema, list[str]]:
    try:
        # Pre-buffering would end up holding the whole file; without it, memory is one page per column.
        file = pq.ParquetFile(stream, pre_buffer=False, buffer_size=READ_BYTES)
        schema, header = file.schema_arrow, file.schema_arrow.names
    except PYARROW_ERRORS:
        raise TableError(DAMAGED) from None
    if sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)) > limits.unpacked:
        raise TooLarge(f"Decompressed, the table is larger than {limits.unpacked} bytes.")
    return file, schema, header


def write(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Encode batches as row groups of about GROUP_ROWS rows."""
    buffer, waiting = OutputBuffer(), list[pa.RecordBatch]()
    repetitive = [name for name in schema.names if name != "probability"]  # probabilities hardly ever repeat
    with pq.ParquetWriter(pa.PythonFile(buffer, "w"), schema, use_dictionary=repetitive) as writer:
        for batch in batches:
            waiting.append(batch)
            if sum(map(len, waiting)) >= GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(waiting, schema), GROUP_ROWS * 2)
                waiting.clear()
                yield buffer.take()
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting, schema), GROUP_ROWS * 2)
    yield buffer.take()
