"""Score tables through a service: each file goes to POST /predict/batch unchanged.

The response is requested as an Arrow stream and written here, so that a file has the same bytes whether a service or a
model in this process scored it. From JSON to JSON it is NDJSON, which alone returns kept values unchanged.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from io import BytesIO
from typing import IO, cast

import click
import msgspec
import pyarrow as pa

from service.cli.score.job import Buffer, Job, Part
from service.client import Client, InvalidRecord, NotThisService, Scored, ServiceError
from service.records.errors import EMPTY_BATCH, FieldFault, InvalidRows, RecordError, RowFault, TableError, Tally
from service.records.results import BATCH_END, batch_start
from service.settings import read_client_key
from service.tables.formats import NDJSON
from service.tables.scoring import result_schema
from service.tables.source import READ_BYTES, Source

INVALID_ROWS = re.compile(r"(\d+) of (\d+) rows failed validation\.")
INCOMPLETE = "The service's response is incomplete."


class RemoteEngine:
    """An Engine.

    Raises click.UsageError for an invalid URL, SettingsError for an invalid key, and TableError if no service responds.
    """

    def __init__(self, url: str, job: Job) -> None:
        self.url, self.key, self.job = url, read_client_key(), job
        with self._client() as client:
            try:
                self.metadata = client.model()
            except ServiceError as error:
                raise _as_record_error(error, Tally()) from None
        self.version = self.metadata.version
        digest = hashlib.sha256(self.metadata.model_dump_json().encode()).hexdigest()
        self.identity = f"version {self.version}, {digest}, behind HTTP"

    def score(self, source: Source, part: Part, tally: Tally) -> Iterator[Buffer]:
        copy = _FirstBytes(source)
        try:
            yield from self._score(copy, part, tally)
        except ServiceError as error:
            failure = _as_record_error(error, tally)
            if str(failure) != EMPTY_BATCH.detail:
                raise failure from None
            # The service refuses a table without rows, but a folder may hold one.
            table = part.read(BytesIO(copy.first), self.job.keep)
            list(table.chunks)  # there are none, but reading to the end closes temporary files
            schema = result_schema(table.kept, self.version, self.metadata.threshold, self.job.report)
            yield from part.encode(schema, [], self.job.keep)

    def _client(self) -> Client:
        """Return a client for one request: a connection that the service has closed meanwhile could lose a table."""
        try:
            return Client(self.url, key=self.key, retry=False)
        except ValueError as error:
            raise click.UsageError(f"--url: {error}") from None

    def _score(self, source: Source, part: Part, tally: Tally) -> Iterator[Buffer]:
        is_json = part.source_kind.format.is_json and part.target_kind.format.is_json
        with (
            self._client() as client,
            client.score(
                cast(IO[bytes], source),  # of a file, the client needs `read` only
                kind=part.source_kind.name,
                to="ndjson" if is_json else "arrows",
                keep=self.job.keep,
                on_error="report" if self.job.report else "refuse",
            ) as response,
        ):
            if response.model_version != self.version:
                raise TableError("The service's model has changed since this run began: run it again.")
            tally.notes += response.notes
            if not is_json:
                yield from part.encode(*_read_batches(response, tally), self.job.keep)
                return
            lines = _read_lines(response, tally)
            if part.target_kind.format is NDJSON:
                yield from lines
                return
            yield batch_start(self.version, response.threshold)
            separator = b""
            for block in lines:
                yield separator + block.removesuffix(b"\n").replace(b"\n", b",")
                separator = b","
            yield BATCH_END


class _FirstBytes:
    """A source that keeps a copy of its first bytes."""

    def __init__(self, source: Source) -> None:
        self.source, self.first = source, b""

    def read(self, size: int, /) -> bytes:
        data = self.source.read(size)
        if len(self.first) < READ_BYTES:
            self.first += data
        return data


def _read_batches(response: Scored, tally: Tally) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Read an Arrow response and count its rows and errors."""
    try:
        reader = pa.ipc.open_stream(pa.PythonFile(response, "r"))
    except (pa.ArrowException, OSError):
        raise TableError("The service's response is not an Arrow stream.") from None

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for batch in reader:
                if "error" in batch.schema.names and batch["error"].null_count < len(batch):
                    _count_errors(tally, batch["error"].to_pylist())
                tally.rows += len(batch)
                yield batch
        except (pa.ArrowException, OSError):
            raise TableError(INCOMPLETE) from None
        if response.read(1):
            raise TableError("The service's response continues after the end of its Arrow stream.")

    return reader.schema, batches()


def _read_lines(response: Scored, tally: Tally) -> Iterator[bytes]:
    """Read an NDJSON response in blocks of whole lines, without the summary at its end, and count rows and errors."""
    rest = b""
    while data := response.read(READ_BYTES):
        block, end, rest = (rest + data).rpartition(b"\n")
        if not end:
            continue
        lines = block.split(b"\n")
        if lines[-1].startswith(b'{"summary":'):
            if cut := msgspec.json.decode(lines.pop())["summary"].get("cut"):
                raise TableError(cut)
            block = b"\n".join(lines)
        if b'"error":"' in block:
            valid = b'"error":null}'
            errors = (None if line.endswith(valid) else msgspec.json.decode(line).get("error") for line in lines)
            _count_errors(tally, errors)
        tally.rows += len(lines)
        if lines:
            yield block + b"\n"
    if rest:
        raise TableError(INCOMPLETE)


def _count_errors(tally: Tally, errors: Iterable[str | None]) -> None:
    """Count the faults of rows, given the `error` of each: `column: reason | ...`, or None for a valid row."""
    for row, error in enumerate(errors, tally.rows):
        if error is not None:
            faults = (fault.rpartition(": ") for fault in error.split(" | "))
            tally.add(row, [FieldFault(column, reason) for column, _, reason in faults])


def _as_record_error(error: ServiceError, tally: Tally) -> RecordError:
    """Return what a model in this process would have raised; invalid rows go into the tally."""
    if not isinstance(error, InvalidRecord):
        is_response = error.status not in (None, HTTPStatus.BAD_REQUEST) and not isinstance(error, NotThisService)
        return TableError(f"The service responds with {error.status}: {error.detail}" if is_response else error.detail)
    # A pointer is /row/column or /column, with ~1 for / and ~0 for ~.
    places = [
        ([name.replace("~1", "/").replace("~0", "~") for name in fault.pointer.split("/")[1:]], fault.detail)
        for fault in error.errors
    ]
    if bad := INVALID_ROWS.match(error.detail):
        tally.bad, tally.rows, tally.total = int(bad[1]), int(bad[2]), error.total
        tally.faults = [RowFault(int(row), "".join(column), reason) for (row, *column), reason in places]
        return InvalidRows(tally)
    listed = "; ".join(": ".join(filter(None, (*place, reason))) for place, reason in places)
    return TableError(listed or error.detail)
