"""POST /predict/batch: read a table from the request's body, and respond while it arrives where that is possible."""

import asyncio
import io
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
from service.api.json_batch import predict_array
from service.api.state import AppState
from service.api.table_request import TableRequest, of_type, parse_table_request
from service.http.body import read_json
from service.http.connection import SLOW_CLIENT_EXEMPT
from service.http.multipart import Upload
from service.http.problems import Problem, ProblemResponse, as_problem
from service.http.streams import Body, ClientDisconnected, linger
from service.model.device import DeviceLost
from service.observe.drift import DriftHistogram
from service.observe.request_context import record_scored
from service.records.errors import EMPTY_BATCH, ColumnsError, InvalidRows, RecordError, Tally, TooLarge
from service.tables.buffers import buffer_until_complete
from service.tables.chunk import Chunk
from service.tables.formats import JSON, NDJSON, Format, format_of_file
from service.tables.scoring import result_schema, score
from service.tables.source import Limits, Source, iter_pieces, open_source

log = logging.getLogger(__name__)


async def table_response(request: Request) -> Response:
    """Respond to a table, whatever its format. Raises Problem and RecordError."""
    state = AppState.of(request)
    wanted = parse_table_request(request)
    if wanted.format is JSON and wanted.answer(JSON) is JSON and not wanted.keep and not wanted.reports(JSON):
        return await _json_array(request, state, wanted)
    return TableResponse(TableScoring(wanted, state), state)


async def _json_array(request: Request, state: AppState, wanted: TableRequest) -> Response:
    """Respond to a JSON array, which is small and held whole, from the event loop."""
    limit = state.settings.max_body
    content = await read_json(request.scope, request.receive, limit)
    try:
        if wanted.packing:
            limits = Limits(limit, limit, ratio=state.settings.max_ratio)
            source = open_source(io.BytesIO(content), wanted.packing, limits)
            content = await asyncio.to_thread(b"".join, iter_pieces(source))
        return Response(await predict_array(state, content), media_type="application/json")
    except InvalidRows as error:
        raise table_problem(error, wanted) from None


class TableScoring:
    """One table's way through the model, for a thread: `work` is all of it.

    answer: the format of the answer, once the first piece of it is there
    """

    def __init__(self, request: TableRequest, state: AppState) -> None:
        """Raises Problem 503 while there is no model."""
        self.request, self.model = request, state.ready_model()
        self.settings, self.metrics = state.settings, state.metrics
        self.spread = DriftHistogram(self.model.metadata)
        self.answer = NDJSON
        self.tally = Tally()

    def work(self, source: Body) -> Iterator[bytes | memoryview]:
        """The answer to a body. Raises TableError, Problem and Gone."""
        came, packed, packing = self._opened(source)
        self.answer, report = self.request.answer(came), self.request.reports(came)
        limits = self._limits(came)
        table = came.read(open_source(packed, packing, limits), self.request.keep, limits)
        chunks = self._counted(table.chunks, limits, source.loop)
        seen = partial(self._seen, source.loop)
        batches = score(chunks, self.model, table.kept, report=report, tally=self.tally, on_scored=seen)
        out = result_schema(table.kept, self.model, report)
        pieces = (memoryview(piece) for piece in self.answer.write(out, batches))
        if report:
            return self._reported(pieces)
        return buffer_until_complete(self._some(pieces), limits.spool)

    def _opened(self, source: Body) -> tuple[Format, Source, str | None]:
        """The table's format, its bytes, and how they are packed."""
        if self.request.format:
            return self.request.format, source, self.request.packing
        upload = Upload(open_source(source, self.request.packing, self._limits(NDJSON)), self.request.boundary)
        named = format_of_file(upload.file_name)
        if not named:
            came = of_type(upload.media_type)
            if not came:
                detail = "Name the form's file after its format, such as table.csv, or give it a Content-Type."
                raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
            named = came, None
        return named[0], upload, named[1]

    def _limits(self, came: Format) -> Limits:
        of = self.settings
        if came is JSON:  # it is held as a whole
            return Limits(of.max_body, of.max_body, of.max_rows, of.max_body, of.max_spool, of.max_ratio)
        return Limits(of.max_table, of.max_unpacked, of.max_table_rows, of.max_part, of.max_spool, of.max_ratio)

    def _counted(self, chunks: Iterable[Chunk], limits: Limits, loop: asyncio.AbstractEventLoop) -> Iterator[Chunk]:
        for chunk in chunks:
            if self.tally.rows + len(chunk) > limits.rows:
                raise TooLarge(f"The table has more than {limits.rows} rows.")
            yield chunk
            if fields := self.tally.fields:
                self.tally.fields = Counter()
                loop.call_soon_threadsafe(self.metrics.record_invalid_fields, fields)

    def _seen(self, loop: asyncio.AbstractEventLoop, columns: Floats, probabilities: NDArray[np.float64]) -> None:
        """Count good rows. Into bins in this thread; but the counts are the loop's alone."""
        if rows := len(probabilities):
            found = self.spread.count(columns, probabilities)
            loop.call_soon_threadsafe(self.metrics.record_run, "batch", rows)
            loop.call_soon_threadsafe(self.metrics.add_drift, self.model, found)

    def _some(self, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
        """The pieces, but none of an answer to no rows."""
        early: list[memoryview] = []
        for piece in pieces:
            early.append(piece)
            if self.tally.rows:
                yield from early
                early.clear()
        if not self.tally.rows:
            raise ColumnsError([EMPTY_BATCH])

    def _reported(self, pieces: Iterable[memoryview]) -> Iterator[bytes | memoryview]:
        """The pieces; NDJSON says at its end how many rows were bad, or why it is cut off."""
        begun = False
        try:
            for piece in self._some(pieces):
                begun = True
                yield piece
        except RecordError as error:
            if begun and self.answer is NDJSON:
                yield self._summary(str(error))
            raise
        if self.answer is NDJSON:
            yield self._summary(None)

    def _summary(self, cut: str | None) -> bytes:
        tally, model = self.tally, self.model
        said: dict[str, object] = {"rows": tally.rows, "scored": tally.rows - tally.bad, "bad": tally.bad}
        said |= {"model_version": model.version, "threshold": model.metadata.threshold}
        return json.dumps({"summary": said | ({"cut": cut} if cut else {})}).encode() + b"\n"


class TableResponse(Response):
    """The answer to a table. Reads the body itself: it may begin before that has ended."""

    def __init__(self, scoring: TableScoring, state: AppState) -> None:
        self.scoring, self.state = scoring, state
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse; once an answer has begun, a failure cuts it off: a whole one ends as HTTP says."""
        scope[SLOW_CLIENT_EXEMPT] = True
        settings, response, begun = self.state.settings, None, False
        try:
            work = self.state.streams.run(self.scoring.work, receive, settings.max_stall, settings.max_seconds)
            async with work as response:
                async for piece in response:
                    if not begun:
                        await send(self._start())
                        begun = True
                    async with asyncio.timeout(settings.max_stall):
                        await send(_part(bytes(piece)))
            self._scored()
            await send(_part(b"", more=False))
        except ClientDisconnected:
            self._scored()
            return
        except (RecordError, Problem, DeviceLost, TimeoutError) as error:
            if isinstance(error, DeviceLost) and not begun:
                raise  # a problem of the whole service, which has its own words
            rest = None if response and response.body.ended else receive
            if begun:
                self._scored()
                log.warning(
                    "a response was cut off after %d rows: %s",
                    self.scoring.tally.rows,
                    error or "the client does not read",
                )
                await linger(rest)
                return  # without an end: the server then breaks the connection
            await _refuse(ProblemResponse(table_problem(error, self.scoring.request)), rest, send)

    def _scored(self) -> None:
        record_scored(self.scoring.tally.rows - self.scoring.tally.bad, self.scoring.model.version)

    def _start(self) -> Message:
        model = self.scoring.model
        headers = [
            (b"content-type", self.scoring.answer.media_type.encode()),
            (b"x-model-version", model.version.encode()),
            (b"x-threshold", repr(model.metadata.threshold).encode()),
        ]
        return {"type": "http.response.start", "status": 200, "headers": headers}


def _part(content: bytes, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def _refuse(response: Response, rest: Receive | None, send: Send) -> None:
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send(_part(bytes(response.body)))
    await linger(rest)
    await send(_part(b"", more=False))


def table_problem(error: Exception, request: TableRequest) -> Problem:
    """A table's failure as HTTP reports it, with a hint where another request would do better."""
    if isinstance(error, Problem):
        return error
    if not isinstance(error, RecordError):  # TimeoutError
        return Problem(HTTPStatus.REQUEST_TIMEOUT, "The table took too long.")
    problem = as_problem(error)
    if isinstance(error, TooLarge) and request.format is JSON:
        problem.detail += " Larger tables: NDJSON, CSV, Arrow or Parquet."
    if isinstance(error, InvalidRows):
        problem.detail += " With `?on_error=report` the valid rows are scored."
    return problem
