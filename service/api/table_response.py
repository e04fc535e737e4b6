"""A table over HTTP: reads the body, answers while it comes where that can be, and refuses in HTTP's words."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from http import HTTPStatus
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from patient.encoding import Floats
from service.api.state import State
from service.api.table_request import Asked, of_type
from service.http import body
from service.http import problems as errors
from service.http.connection import PATIENT
from service.http.multipart import Upload
from service.http.problems import FieldError, Problem
from service.http.streams import Body, Gone, Streams, linger
from service.model.device import DeviceLost
from service.observe.drift import Spread
from service.observe.request_context import scored
from service.tables.chunk import Chunk
from service.tables.errors import ColumnsError, NoProbability, NoRoom, Refused, TableError, Tally, TooLarge
from service.tables.formats import JSON, NDJSON, Format, of_name
from service.tables.scoring import schema, score
from service.tables.source import Limits, Source, opened
from service.tables.spool import held

log = logging.getLogger(__name__)


class Scoring:
    """One table's way through the model, for a thread: `work` is all of it.

    answer: the format of the answer, once the first piece of it is there
    """

    def __init__(self, asked: Asked, state: State) -> None:
        """Raises Problem 503 while there is no model."""
        self.asked, self.model = asked, state.ready_model()
        self.settings, self.counts = state.settings, state.counts
        self.spread = Spread(self.model.metadata)
        self.answer = NDJSON
        self.tally = Tally()

    def work(self, source: Body) -> Iterator[bytes | memoryview]:
        """The answer to a body. Raises TableError, Problem and Gone."""
        came, packed, packing = self._opened(source)
        self.answer, report = self.asked.answer(came), self.asked.reports(came)
        limits = self._limits(came)
        table = came.read(opened(packed, packing, limits), self.asked.keep, limits)
        chunks = self._counted(table.chunks, limits, source.loop)
        seen = partial(self._seen, source.loop)
        batches = score(chunks, self.model, table.kept, report=report, tally=self.tally, seen=seen)
        pieces = (memoryview(piece) for piece in self.answer.write(schema(table.kept, self.model, report), batches))
        if report:
            return self._reported(pieces)
        return held(self._some(pieces), limits.spool)

    def _opened(self, source: Body) -> tuple[Format, Source, str | None]:
        """The table's format, its bytes, and how they are packed."""
        if self.asked.format:
            return self.asked.format, source, self.asked.packing
        upload = Upload(opened(source, self.asked.packing, self._limits(NDJSON)), self.asked.boundary)
        named = of_name(upload.file_name)
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
                loop.call_soon_threadsafe(self.counts.refused, fields)

    def _seen(self, loop: asyncio.AbstractEventLoop, columns: Floats, probabilities: NDArray[np.float64]) -> None:
        """Count good rows. Into bins in this thread; but the counts are the loop's alone."""
        if rows := len(probabilities):
            found = self.spread.count(columns, probabilities)
            loop.call_soon_threadsafe(self.counts.ran, "batch", rows)
            loop.call_soon_threadsafe(self.counts.binned, self.model, found)

    def _some(self, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
        """The pieces, but none of an answer to no rows."""
        early: list[memoryview] = []
        for piece in pieces:
            early.append(piece)
            if self.tally.rows:
                yield from early
                early.clear()
        if not self.tally.rows:
            raise ColumnsError([("", "The batch is empty: send at least one record")])

    def _reported(self, pieces: Iterable[memoryview]) -> Iterator[bytes | memoryview]:
        """The pieces; NDJSON says at its end how many rows were bad, or why it is cut off."""
        begun = False
        try:
            for piece in self._some(pieces):
                begun = True
                yield piece
        except TableError as error:
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

    def __init__(self, scoring: Scoring, streams: Streams) -> None:
        self.scoring, self.streams = scoring, streams
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse; once an answer has begun, a failure cuts it off: a whole one ends as HTTP says."""
        scope[PATIENT] = True
        settings, answer, begun = self.scoring.settings, None, False
        try:
            async with self.streams.run(self.scoring.work, receive, settings.max_stall, settings.max_seconds) as answer:
                async for piece in answer:
                    if not begun:
                        await send(self._start())
                        begun = True
                    async with asyncio.timeout(settings.max_stall):
                        await send(_part(bytes(piece)))
            self._scored()
            await send(_part(b"", more=False))
        except Gone:
            self._scored()
            return
        except (TableError, Problem, DeviceLost, TimeoutError) as error:
            if isinstance(error, DeviceLost) and not begun:
                raise  # a problem of the whole service, which has its own words
            rest = None if answer and answer.body.ended else receive
            if begun:
                self._scored()
                log.warning("an answer was cut off after %d rows: %s", self.scoring.tally.rows, error or "nobody reads")
                await linger(rest)
                return  # without an end: the server then breaks the connection
            await _refuse(errors.response(problem(error, self.scoring.asked)), rest, send)

    def _scored(self) -> None:
        scored(self.scoring.tally.rows - self.scoring.tally.bad, self.scoring.model.version)

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


def problem(error: Exception, asked: Asked | None = None) -> Problem:
    """What is wrong with a table, as HTTP says it."""
    match error:
        case Problem():
            return error
        case Refused(tally=tally):
            places = [((row, column) if column else (row,), reason) for row, column, reason in tally.faults]
            detail = f"{error} `errors` says what is wrong; with `?on_error=report` the others are scored."
            return _unprocessable(detail, places, tally.total)
        case ColumnsError(columns=columns):
            listed = [((name,) if name else (), reason) for name, reason in columns]
            return _unprocessable("Not a table of patient records, see `errors`.", listed, len(listed))
        case TooLarge():
            hint = " Larger tables: NDJSON, CSV, Arrow or Parquet." if asked and asked.format is JSON else ""
            return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{error}{hint}")
        case NoRoom():
            return Problem(HTTPStatus.INSUFFICIENT_STORAGE, str(error))
        case NoProbability():
            return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        case TimeoutError():
            return Problem(HTTPStatus.REQUEST_TIMEOUT, "The table took too long.")
    return Problem(HTTPStatus.BAD_REQUEST, str(error))


def _unprocessable(detail: str, faults: Iterable[tuple[body.Location, str]], total: int) -> Problem:
    listed = [FieldError(pointer=body.pointer(where), detail=reason) for where, reason in islice(faults, errors.LISTED)]
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, listed, total)
