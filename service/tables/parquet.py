"""Read and write Parquet, row group by row group. The metadata are at the end, so reading needs a seekable file."""

from collections.abc import Iterable, Iterator, Sequence
from typing import IO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from patient.record import FIELDS
from patient.table import describe_unnamed
from service.records.errors import TableError, TooLarge
from service.tables import columns, kept
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
        names = columns.check_header(header, keep, limits.columns)
    except BaseException:
        stream.close()
        raise
    kept_columns = kept_schema(schema, names, keep)

    def read_chunks() -> Iterator[Chunk]:
        with stream:
            batches = file.iter_batches(MAX_CHUNK_ROWS, columns=[*FIELDS, *names], use_threads=False)
            yield from split_batches(map(_validated, batches), kept_columns, DAMAGED)

    return Table(kept_columns, read_chunks(), describe_unnamed(header, names))


def _validated(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch. Raises ArrowInvalid for strings that are not UTF-8: pyarrow reads them."""
    batch.validate(full=True)
    return batch


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


def write(schema: pa.Schema, batches: Iterable[pa.RecordBatch], named: Sequence[str] = ()) -> Iterator[bytes]:
    """Encode batches as row groups of about GROUP_ROWS rows.

    Raises ColumnsError, see Format.write; a value that Parquet cannot hold, such as a far date, raises it later.
    """
    kept.check(schema, is_storable, "Parquet", named)
    schema, batches = kept.convert(schema, batches, _decode, "Parquet", named)
    buffer, waiting = OutputBuffer(), list[pa.RecordBatch]()
    repetitive = [name for name in schema.names if name != "probability"]  # probabilities hardly ever repeat
    with pq.ParquetWriter(pa.PythonFile(buffer, "w"), schema, use_dictionary=repetitive) as writer:

        def write_group() -> bytes:
            group = pa.Table.from_batches(waiting, schema)
            waiting.clear()
            try:
                writer.write_table(group, GROUP_ROWS * 2)
            except PYARROW_ERRORS:
                unfit = [i for i, name in enumerate(schema.names) if not _can_write(group.select([name]))]
                raise kept.refusal(schema, unfit, "Parquet", named) from None
            return buffer.take()

        for batch in batches:
            waiting.append(batch)
            if sum(map(len, waiting)) >= GROUP_ROWS:
                yield write_group()
        if waiting:
            yield write_group()
    yield buffer.take()


def is_storable(kind: pa.DataType) -> bool:
    """Return whether Parquet can hold a type, once a column of it is decoded."""
    try:
        decoded = _decode(kept.empty(kind))
    except PYARROW_ERRORS:
        return False
    return not _is_nested_unfit(decoded.type) and _can_write(pa.table({"": decoded}))


def _decode(column: pa.Array) -> pa.Array:
    """Decode what Parquet cannot hold. date64 is rounded to days there, so a time of day is an error."""
    kind = column.type
    if pa.types.is_run_end_encoded(kind) or (pa.types.is_dictionary(kind) and not _is_simple(kind.value_type)):
        return _decode(kept.plain(column))
    if pa.types.is_dictionary(kind) and column.dictionary.null_count:  # which pyarrow does not write
        again = column.dictionary_decode().dictionary_encode()
        indices = again.indices.cast(kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, again.dictionary, ordered=kind.ordered)
    return column.cast(pa.date32()) if pa.types.is_date64(kind) else column


def _is_simple(kind: pa.DataType) -> bool:
    """Whether pyarrow writes a dictionary of these values to Parquet."""
    is_other = pa.types.is_null(kind) or pa.types.is_date64(kind) or kind in kept.VIEWS or kept.children(kind)
    return not is_other and not pa.types.is_struct(kind)


def _is_nested_unfit(kind: pa.DataType) -> bool:
    """Whether pyarrow reports only with the first rows, or never, that it cannot write what a type holds."""
    if pa.types.is_dictionary(kind):
        return not _is_simple(kind.value_type)
    if pa.types.is_fixed_size_list(kind) and not kind.list_size:
        return True
    return pa.types.is_date64(kind) or any(map(_is_nested_unfit, kept.children(kind)))


def _can_write(table: pa.Table) -> bool:
    try:
        pq.write_table(table, pa.BufferOutputStream())
    except PYARROW_ERRORS:
        return False
    return True
