"""Respond to a table, which a worker process reads and scores, while it arrives where that is possible."""

import asyncio
import logging
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.api import jobs
from service.api.json_batch import predict_array
from service.api.state import AppState
from service.api.table_request import parse_table_request
from service.api.worker_scoring import WorkerScoring
from service.http.body import read_json
from service.http.fairness import client_of
from service.http.framing import RESPONSE_HELD
from service.http.problems import Problem, ProblemResponse, as_problem
from service.http.streams import ClientDisconnected, discard_body, timeout
from service.model.device import DeviceLost
from service.observe.request_context import record_scored
from service.tables.formats import JSON

log = logging.getLogger(__name__)


async def table_response(request: Request) -> Response:
    """Respond to a table of any format. Raises Problem and RecordError."""
    state = AppState.of(request)
    wanted = parse_table_request(request)
    is_plain = not wanted.encoding and not wanted.keep and not wanted.reports_errors(JSON)
    if wanted.format is not JSON or not is_plain or wanted.response_format(JSON) is not JSON:
        return TableResponse(request, state)
    content = await read_json(request.scope, request.receive, state.settings.max_body)
    result = await predict_array(state, content, client_of(request.scope))  # small: in the event loop
    return Response(result, media_type="application/json")


class TableResponse(Response):
    """The response to a table. It reads the body itself, because it may begin before the body has ended."""

    def __init__(self, request: Request, state: AppState) -> None:
        self.state, self.model = state, state.ready_model()
        self.arguments = jobs.arguments(request, jobs.TABLE_HEADERS, self.model, state.settings)
        self.scoring = WorkerScoring(self.model, state.metrics)
        self.notes: list[str] = []
        self.response_type = ""  # of the response; known before its first piece
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response or a problem. A failure after the response has begun cuts it off, without HTTP's end."""
        settings, stream, has_begun = self.state.settings, None, False
        try:
            work = self.state.streams.run(
                *(jobs.TABLE, self.arguments, scope, receive, self.scoring, self._on_event),
                *(settings.max_stall, settings.max_seconds),
            )
            async with work as stream:
                async for piece in stream:
                    if not has_begun:
                        await send(self._start())
                        has_begun = True
                    async with asyncio.timeout(settings.max_stall):
                        await send(_part(piece))
                jobs.result(stream.done)
            self._record_scored()
            await send(_part(b"", more=False))
        except ClientDisconnected:
            self._record_scored()
        except (Problem, DeviceLost, TimeoutError) as error:
            is_body_read = stream is not None and stream.is_body_complete
            if isinstance(error, DeviceLost) and not has_begun:
                raise  # the app's exception handler responds
            is_cut_off = has_begun and not scope.get(RESPONSE_HELD)
            if has_begun:
                self._record_scored()
            if is_cut_off:
                reason = str(error) or "the client does not read"
                log.warning("a response was cut off after %d rows: %s", self.scoring.rows, reason)
            else:
                response = ProblemResponse(_problem(error))
                head = {"status": response.status_code, "headers": response.raw_headers}
                await send({"type": "http.response.start", **head})
                await send(_part(bytes(response.body)))
            if not is_body_read:
                await discard_body(receive)
            if not is_cut_off:  # that gets no end, so the server breaks the connection
                await send(_part(b"", more=False))

    def _on_event(self, event: dict[str, Any]) -> None:
        """Called in the stream's thread, in order with the pieces of the response."""
        self.response_type = event.get("media_type", self.response_type)
        self.notes = event.get("notes", self.notes)
        if fields := event.get("invalid_fields"):
            self.scoring.loop.call_soon_threadsafe(self.state.metrics.record_invalid_fields, fields)

    def _record_scored(self) -> None:
        record_scored(self.scoring.rows, self.model.version)

    def _start(self) -> Message:
        headers = [
            (b"content-type", self.response_type.encode()),
            (b"x-model-version", self.model.version.encode()),
            (b"x-threshold", repr(self.model.metadata.threshold).encode()),
        ]
        if self.notes:
            headers.append((b"x-table-notes", "; ".join(self.notes).encode()))
        return {"type": "http.response.start", "status": 200, "headers": headers}


def _problem(error: Problem | DeviceLost | TimeoutError) -> Problem:
    if isinstance(error, DeviceLost):
        return as_problem(error)
    return error if isinstance(error, Problem) else timeout("The table took too long.")


def _part(content: bytes | bytearray, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}
