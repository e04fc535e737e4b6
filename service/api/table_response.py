"""Score the table in a request's body, and respond while it arrives where that is possible."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from http import HTTPStatus

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from patient.encoding import Floats
from service.api.compression import decompress
from service.api.json_batch import invalid_rows_problem, predict_array
from service.api.state import AppState
from service.api.table_request import TableRequest, format_of_type, parse_table_request
from service.http.body import read_json
from service.http.connection import SLOW_CLIENT_EXEMPT
from service.http.multipart import FormFile
from service.http.problems import Problem, ProblemResponse, as_problem
from service.http.streams import ClientDisconnected, Stream, StreamPool, discard_body
from service.model.device import DeviceLost
from service.observe.drift import DriftHistogram
from service.observe.request_context import record_scored
from service.records.errors import EMPTY_BATCH, ColumnsError, InvalidRows, RecordError, Tally, TooLarge
from service.tables.chunk import Chunk
from service.tables.formats import JSON, NDJSON, Format, format_of_file
from service.tables.scoring import result_schema, score
from service.tables.source import Limits, Source, buffer_until_complete, open_source

log = logging.getLogger(__name__)


async def table_response(request: Request) -> Response:
    """Respond to a table of any format. Raises Problem and RecordError."""
    state = AppState.of(request)
    wanted = parse_table_request(request)
    is_plain = not wanted.keep and not wanted.reports_errors(JSON) and wanted.response_format(JSON) is JSON
    if wanted.format is not JSON or not is_plain:
        return TableResponse(TableScoring(wanted, state), state.streams)
    limit = state.settings.max_body  # a JSON array is small: it is scored in the event loop
    content = await read_json(request.scope, request.receive, limit)
    if wanted.encoding:
        content = await decompress(content, wanted.encoding, limit, state.settings)
    return Response(await predict_array(state, content), media_type="application/json")


class TableScoring:
    """The scoring of one table, in a thread. Raises Problem 503 while there is no model.

    response_format: known once `work` has yielded
    """

    def __init__(self, request: TableRequest, state: AppState) -> None:
        self.request, self.model = request, state.ready_model()
        self.settings, self.metrics = state.settings, state.metrics
        self.drift = DriftHistogram(self.model.metadata)
        self.response_format = NDJSON
        self.tally = Tally()

    def work(self, body: Stream) -> Iterator[bytes | memoryview]:
        """Yield the pieces of the response. Raises RecordError, Problem and ClientDisconnected."""
        format_, source, encoding = self._table_in(body)
        self.response_format, report = self.request.response_format(format_), self.request.reports_errors(format_)
        limits = self._limits(format_)
        table = format_.read(open_source(source, encoding, limits), self.request.keep, limits)
        self.tally.notes += table.notes
        chunks = self._checked(table.chunks, limits, body.loop)
        seen = partial(self._record, body.loop)
        schema = result_schema(table.kept, self.model, report)
        batches = score(chunks, self.model, schema, self.tally, on_scored=seen)
        pieces = self._not_empty(memoryview(piece) for piece in self.response_format.write(schema, batches))
        if report:
            return self._with_summary(pieces) if self.response_format is NDJSON else pieces
        return buffer_until_complete(pieces, limits.spool)

    def _table_in(self, body: Stream) -> tuple[Format, Source, str | None]:
        """The table's format, its bytes, and how they are compressed."""
        if self.request.format:
            return self.request.format, body, self.request.encoding
        form = open_source(body, self.request.encoding, self._limits(NDJSON))
        file = FormFile(form, self.request.boundary)
        if named := format_of_file(file.file_name):
            format_, encoding = named
            return format_, file, encoding
        if typed := format_of_type(file.media_type):
            return typed, file, None
        detail = "Name the form's file after its format, such as table.csv, or give it a Content-Type."
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)

    def _limits(self, format_: Format) -> Limits:
        of = self.settings
        if format_ is JSON:  # read as a whole
            return Limits(of.max_body, of.max_body, of.max_rows, of.max_body, of.max_spool, of.max_ratio)
        return Limits(of.max_table, of.max_unpacked, of.max_table_rows, of.max_part, of.max_spool, of.max_ratio)

    def _checked(self, chunks: Iterable[Chunk], limits: Limits, loop: asyncio.AbstractEventLoop) -> Iterator[Chunk]:
        """The chunks, up to the limit of rows; after each, its invalid fields are counted."""
        for chunk in chunks:
            if self.tally.rows + len(chunk) > limits.rows:
                raise TooLarge(f"The table has more than {limits.rows} rows.")
            yield chunk
            if fields := self.tally.fields:
                self.tally.fields = Counter()
                loop.call_soon_threadsafe(self.metrics.record_invalid_fields, fields)

    def _record(self, loop: asyncio.AbstractEventLoop, columns: Floats, probabilities: NDArray[np.float64]) -> None:
        """Count scored rows: their bins in this thread, the metrics in the event loop, which alone writes them."""
        if rows := len(probabilities):
            found = self.drift.count(columns, probabilities)
            loop.call_soon_threadsafe(self.metrics.record_run, "batch", rows)
            loop.call_soon_threadsafe(self.metrics.add_drift, self.model, found)

    def _not_empty(self, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
        """The pieces, from the first row on. Raises ColumnsError if the table has no row."""
        held_back: list[memoryview] = []
        for piece in pieces:
            held_back.append(piece)
            if self.tally.rows:
                yield from held_back
                held_back.clear()
        if not self.tally.rows:
            raise ColumnsError([EMPTY_BATCH])

    def _with_summary(self, pieces: Iterable[memoryview]) -> Iterator[bytes | memoryview]:
        """The pieces of NDJSON and a last line that counts the rows, or says why the response is cut off."""
        has_begun = False
        try:
            for piece in pieces:
                has_begun = True
                yield piece
        except RecordError as error:
            if has_begun:
                yield self._summary(str(error))
            raise
        yield self._summary(None)

    def _summary(self, cut: str | None) -> bytes:
        tally, model = self.tally, self.model
        summary: dict[str, object] = {"rows": tally.rows, "scored": tally.rows - tally.bad, "bad": tally.bad}
        summary |= {"model_version": model.version, "threshold": model.metadata.threshold}
        summary |= {"notes": tally.notes} if tally.notes else {}
        return json.dumps({"summary": summary | ({"cut": cut} if cut else {})}).encode() + b"\n"


class TableResponse(Response):
    """The response to a table. It reads the body itself, because it may begin before the body has ended."""

    def __init__(self, scoring: TableScoring, streams: StreamPool) -> None:
        self.scoring, self.streams = scoring, streams
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response or a problem. A failure after the response has begun cuts it off, without HTTP's end."""
        scope[SLOW_CLIENT_EXEMPT] = True
        settings, stream, has_begun = self.scoring.settings, None, False
        try:
            work = self.streams.run(self.scoring.work, receive, settings.max_stall, settings.max_seconds)
            async with work as stream:
                async for piece in stream:
                    if not has_begun:
                        await send(self._start())
                        has_begun = True
                    async with asyncio.timeout(settings.max_stall):
                        await send(_part(bytes(piece)))
            self._record_scored()
            await send(_part(b"", more=False))
        except ClientDisconnected:
            self._record_scored()
        except (RecordError, Problem, DeviceLost, TimeoutError) as error:
            is_body_read = stream is not None and stream.is_body_complete
            if has_begun:
                self._record_scored()
                reason = str(error) or "the client does not read"
                log.warning("a response was cut off after %d rows: %s", self.scoring.tally.rows, reason)
            elif isinstance(error, DeviceLost):
                raise  # the app's exception handler responds
            else:
                problem = ProblemResponse(_problem(error, self.scoring.request))
                head = {"status": problem.status_code, "headers": problem.raw_headers}
                await send({"type": "http.response.start", **head})
                await send(_part(bytes(problem.body)))
            if not is_body_read:
                await discard_body(receive)
            if not has_begun:  # a response that was cut off gets no end, so the server breaks the connection
                await send(_part(b"", more=False))

    def _record_scored(self) -> None:
        record_scored(self.scoring.tally.rows - self.scoring.tally.bad, self.scoring.model.version)

    def _start(self) -> Message:
        model = self.scoring.model
        headers = [
            (b"content-type", self.scoring.response_format.media_type.encode()),
            (b"x-model-version", model.version.encode()),
            (b"x-threshold", repr(model.metadata.threshold).encode()),
        ]
        if notes := self.scoring.tally.notes:
            headers.append((b"x-table-notes", "; ".join(notes).encode()))
        return {"type": "http.response.start", "status": 200, "headers": headers}


def _part(content: bytes, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


def _problem(error: Exception, request: TableRequest) -> Problem:
    """A table's failure as a problem, with a hint where a different request would succeed."""
    if isinstance(error, Problem):
        return error
    if not isinstance(error, RecordError):  # TimeoutError
        return Problem(HTTPStatus.REQUEST_TIMEOUT, "The table took too long.")
    if isinstance(error, InvalidRows):
        return invalid_rows_problem(error)
    problem = as_problem(error)
    if isinstance(error, TooLarge) and request.format is JSON:
        problem.detail += " Send larger tables as NDJSON, CSV, Arrow or Parquet."
    return problem
