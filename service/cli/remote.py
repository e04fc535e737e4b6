"""Score tables through a service: each file goes to POST /predict/batch unchanged.

The response is requested as an Arrow stream and written here, so that a file has the same bytes whether a service or a
model in this process scored it. From JSON to JSON it is NDJSON, which alone returns kept values unchanged.
"""

import hashlib
import re
from collections.abc import Iterator
from io import BytesIO
from typing import IO, cast

import msgspec
import pyarrow as pa

from service.cli.job import LIMITS, Buffer, Job, Kind, Part, Usage
from service.client import Client, InvalidRecord, NotThisService, Scored, ServiceError
from service.records.errors import MAX_LISTED_ERRORS, InvalidRows, RecordError, RowFault, TableError, Tally
from service.records.results import BATCH_END, batch_start
from service.settings import read_client_key
from service.tables.formats import NDJSON
from service.tables.scoring import result_schema
from service.tables.source import READ_BYTES, Source, open_source

TIMEOUT_SECONDS = 10.0
EMPTY_BATCH = "The batch is empty"  # beginning of the service's error
INVALID_ROWS = re.compile(r"(\d+) of (\d+) rows failed validation\.")
BAD_REQUEST = 400


class Remote:
    """An Engine.

    Raises Usage for an invalid URL, SettingsError for an invalid key, and TableError if no service responds.
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
            if not str(failure).startswith(EMPTY_BATCH):
                raise failure from None
            # The service refuses a table without rows, but a folder may hold one.
            source_kind = Kind(part.source_kind)
            table = source_kind.format.read(
                open_source(BytesIO(copy.first), source_kind.packing, LIMITS), self.job.keep, LIMITS
            )
            list(table.chunks)  # there are none, but reading to the end closes temporary files
            out = result_schema(table.kept, self, self.job.report)  # type: ignore[arg-type]  # needs version and metadata only
            yield from Kind(part.target_kind).write(out, [], pipe=part.target == "-")

    def _client(self) -> Client:
        """Return a client for one request: a connection that the service has closed meanwhile could lose a table."""
        try:
            return Client(self.url, key=self.key, timeout=TIMEOUT_SECONDS, deadline=TIMEOUT_SECONDS, retry=False)
        except ValueError as error:
            raise Usage(f"--url: {error}") from None

    def _score(self, source: Source, part: Part, tally: Tally) -> Iterator[Buffer]:
        source_kind, target_kind = Kind(part.source_kind), Kind(part.target_kind)
        is_json = source_kind.format.is_json and target_kind.format.is_json
        with (
            self._client() as client,
            client.score(
                cast(IO[bytes], source),  # of a file, the client needs `read` only
                kind=source_kind.name,
                to="ndjson" if is_json else "arrows",
                keep=self.job.keep,
                on_error="report" if self.job.report else "refuse",
            ) as response,
        ):
            if response.model_version != self.version:
                raise TableError("The service's model has changed since this run began: run it again.")
            if not is_json:
                schema, batches = _read_batches(response, tally)
                yield from target_kind.write(schema, batches, pipe=part.target == "-")
                return
            lines = _read_lines(response, tally)
            if target_kind.format is NDJSON:
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
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                break
            except (pa.ArrowException, OSError):
                raise TableError("The service's response is incomplete.") from None
            if "error" in batch.schema.names and batch["error"].null_count < len(batch):
                for row, error in enumerate(batch["error"].to_pylist()):
                    _count(tally, row, error)
            tally.rows += len(batch)
            yield batch
        if response.read(1):
            raise TableError("The service's response continues after the end of its Arrow stream.")

    return reader.schema, batches()


def _read_lines(response: Scored, tally: Tally) -> Iterator[bytes]:
    """Read an NDJSON response in blocks of whole lines, without the summary at its end, and count rows and errors."""
    rest = b""
    while data := response.read(READ_BYTES):
        whole, end, data = data.rpartition(b"\n")
        if end:
            yield from _read_block(rest + whole + end, tally)
            rest = b""
        rest += data
    if rest:
        raise TableError("The service's response is incomplete.")


def _read_block(block: bytes, tally: Tally) -> Iterator[bytes]:
    body, _, last = block[:-1].rpartition(b"\n")
    if last.startswith(b'{"summary":'):
        if cut := msgspec.json.decode(last)["summary"].get("cut"):
            raise TableError(cut)
        if not body:
            return
        block = body + b"\n"
    lines = block[:-1].split(b"\n")
    if b'"error":"' in block:
        for row, line in enumerate(lines):
            if not line.endswith(b'"error":null}'):
                _count(tally, row, msgspec.json.decode(line).get("error"))
    tally.rows += len(lines)
    yield block


def _count(tally: Tally, row: int, error: str | None) -> None:
    """Count the errors of a row, given as in the `error` column: `column: reason | ...`."""
    if error is None:
        return
    tally.bad += 1
    for fault in error.split(" | "):
        column, _, reason = fault.rpartition(": ")
        tally.total += 1
        if len(tally.faults) < MAX_LISTED_ERRORS:
            tally.faults.append(RowFault(tally.rows + row, column, reason))


def _as_record_error(error: ServiceError, tally: Tally) -> RecordError:
    """Return what a model in this process would have raised; invalid rows go into the tally."""
    if not isinstance(error, InvalidRecord):
        is_response = error.status not in (None, BAD_REQUEST) and not isinstance(error, NotThisService)
        return TableError(f"The service responds with {error.status}: {error.detail}" if is_response else error.detail)
    places = [([_unescaped(name) for name in fault.pointer.split("/")[1:]], fault.detail) for fault in error.errors]
    if bad := INVALID_ROWS.match(error.detail):
        tally.bad, tally.rows, tally.total = int(bad[1]), int(bad[2]), error.total
        tally.faults = [RowFault(int(row), "".join(column), reason) for (row, *column), reason in places]
        return InvalidRows(tally)
    listed = "; ".join(": ".join(filter(None, (*place, reason))) for place, reason in places)
    return TableError(listed or error.detail)


def _unescaped(name: str) -> str:
    """Decode a part of a JSON pointer."""
    return name.replace("~1", "/").replace("~0", "~")
