"""POST /predict with a plain JSON body, answered by the connection itself.

    bytes -> httptools -> on_headers_complete: is it plain? -> on_message_complete: decode, wait in the MicroBatcher
          -> one run of the model for all that wait -> FastPath.succeed: for each, head and body in one write

No ASGI scope, cycle, task, future or context variable: docs/adr/0008 says what each of them costs. A request that is
not plain (another media type or version, compressed, in chunks, with Expect, Upgrade or a wrong key) goes through
FastAPI's route of the same path, and so does one that follows a request without a response yet. Both ways give the same
responses, counts and log lines: tests/service/http/test_fast_path.py.

Uvicorn's protocol takes a RecordRequest for its RequestResponseCycle: it has the attributes that the protocol uses.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from time import perf_counter, time
from types import MappingProxyType
from typing import Any, NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.http.api_keys import ApiKeys
from service.http.authentication import authenticate, sent_key
from service.http.body import JSON
from service.http.connection import HEAD_END, LimitedHttpProtocol
from service.http.graceful_shutdown import GracefulShutdown
from service.http.micro_batcher import QUEUE_FULL, MicroBatcher
from service.http.path_prefix import FORWARDED
from service.http.problems import CLIENT_CLOSED, INTERNAL_ERROR, Problem, ProblemResponse, busy, error_response
from service.http.request_log import REQUEST_ID, log_unhandled, new_id
from service.http.security_headers import Header, with_security_headers
from service.model.device import DeviceLost
from service.model.predictor import Predictor
from service.observe.log import AccessLog
from service.observe.log_format import AccessEntry
from service.observe.metrics import OTHER, STATUS, Metrics
from service.observe.request_context import CURRENT, RequestContext
from service.records.decoding import MAX_RECORD_BYTES, NO_VALUES, Values, decode_record
from service.records.errors import NoProbability, RecordError
from service.records.results import SCALE, record_result
from service.settings import Settings

PATH = "/predict"
URL = PATH.encode()
# The headers that matter. Both ways ignore all others.
TYPE, LENGTH, HOST, ID, CONNECTION = b"content-type", b"content-length", b"host", b"x-request-id", b"connection"
NOT_PLAIN = {b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"}
MAX_KNOWN_HEADS = 1024
MAX_KNOWN_HEAD_BYTES = 1024


class KnownHead(NamedTuple):
    """A head that the parser has found to be plain.

    size: of the whole message; length: of its body; digest: the SHA-256 of its API key, where keys are required
    """

    size: int
    length: int
    digest: bytes


class RecordRequest(RequestContext):
    """A request until its response is written. What stands in the class is how each begins."""

    scope: Mapping[str, Any] = MappingProxyType({})
    message_event = asyncio.Event()  # which Uvicorn sets when the client has gone
    response_started = response_complete = disconnected = False
    keep_alive = more_body = True
    body = b""
    values: Values = NO_VALUES

    def __init__(self, connection: "FastPathProtocol", id_: bytes, bytes_in: int) -> None:
        super().__init__(id_)
        self.connection, self.bytes_in = connection, bytes_in


class FastPath:
    """What all connections share. route: the number under which the metrics count the path"""

    def __init__(
        self,
        settings: Settings,
        batcher: MicroBatcher,
        metrics: Metrics,
        access_log: AccessLog | None,
        keys: ApiKeys | None,
        shutdown: GracefulShutdown,
        route: int,
    ) -> None:
        self.batcher, self.metrics, self.access_log = batcher, metrics, access_log
        self.keys, self.shutdown, self.route = keys, shutdown, route
        self.max_body = min(settings.max_body, MAX_RECORD_BYTES)
        self.urls = {settings.root_path.encode() + URL}
        if settings.root_path != PATH:
            self.urls.add(URL)
        self.not_plain = NOT_PLAIN | {FORWARDED} if settings.trust_forwarded_prefix else NOT_PLAIN
        self.examined = {TYPE, LENGTH, HOST, ID, CONNECTION} | self.not_plain
        self.queue = batcher.queue(self)
        self.known_heads: dict[bytes, KnownHead] = {}
        self.overload = ProblemResponse(busy(QUEUE_FULL))  # made once: it is sent when there is no time to make it
        self.default_headers: object = None  # for which `start` was made; Uvicorn's change once a second: the date
        self.start = b""
        self.middle = b"\r\n%bx-request-id: " % _lines(with_security_headers([JSON]))

    def decode(self, request: RecordRequest) -> None:
        """Decode the complete body of a request, and queue its record."""
        request.more_body = False
        if self.batcher.is_full():
            self.send(request, self.overload)
            return
        try:
            request.values = decode_record(request.body)
            self.batcher.add(self.queue, request.values, request)
        except Exception as error:
            self.fail([request], error)

    def succeed(self, model: Predictor, waiters: Sequence[RecordRequest], probabilities: Sequence[float]) -> None:
        """Send the responses to the records of a run. All that is the same for them is done once."""
        threshold, version, middle = model.metadata.threshold, model.version, self.middle
        server = waiters[0].connection.server_state
        if server.default_headers is not self.default_headers:
            self.default_headers = server.default_headers
            self.start = b"%b%bcontent-length: " % (STATUS_LINE[200], _lines(server.default_headers))
        start, ended = self.start, []
        for request, probability in zip(waiters, probabilities, strict=True):
            if not 0 <= probability <= 1:  # NaN is not
                self.fail([request], NoProbability())
                continue
            body = record_result(round(probability * SCALE) / SCALE, request.values, threshold, version)
            size, connection = len(body), request.connection
            transport = connection.transport
            if request.keep_alive and not (transport.is_closing() or connection.pipeline or self.shutdown.stopping):
                transport.write(b"%b%d%b%b\r\n\r\n%b" % (start, size, middle, request.id, body))
                request.response_complete = True
            else:
                connection.respond(request, b"%b%d%b%b\r\n" % (start, size, middle, request.id), body)
            ended.append((request, size))
        server.total_requests += len(ended)
        self.record(200, ended, version)

    def fail(self, waiters: Sequence[RecordRequest], error: BaseException) -> None:
        """Send the responses that belong to an error, like the exception handlers of the app."""
        for request in waiters:
            token = CURRENT.set(request)  # for the log
            if isinstance(error, Problem | RecordError | DeviceLost):
                self.send(request, error_response(error, self.metrics))
            else:
                log_unhandled("POST", PATH, error)
                self.send(request, ProblemResponse(INTERNAL_ERROR))
            CURRENT.reset(token)

    def send(self, request: RecordRequest, response: ProblemResponse) -> None:
        headers = *with_security_headers(response.raw_headers), (ID, request.id)
        start = STATUS_LINE[response.status_code] + _lines(request.connection.server_state.default_headers)
        request.connection.respond(request, start + _lines(headers), bytes(response.body))
        self.record(response.status_code, [(request, len(response.body))])

    def record(self, status: int, ended: Sequence[tuple[RecordRequest, int]], version: str | None = None) -> None:
        """Count and log requests that have ended, with the bytes of their responses' bodies.

        version: of the model that scored them
        """
        now = perf_counter()
        seconds = [now - request.began for request, _ in ended]
        self.metrics.record_responses(self.route, STATUS.get(status, OTHER), seconds)
        if self.access_log:
            at, rows = time(), 1 if version else None
            entries: list[AccessEntry] = []
            for duration, (request, size) in zip(seconds, ended, strict=True):
                response = ("POST", PATH, status, True, request.bytes_in, size)
                entries.append((at, duration, request.id, response, rows, version))
            self.access_log(entries)


class FastPathProtocol(LimitedHttpProtocol):
    """fast_path: None if all requests go the ordinary way; request: whose body is arriving"""

    def __init__(self, *arguments: Any, **uvicorn_arguments: Any) -> None:
        super().__init__(*arguments, **uvicorn_arguments)
        self.fast_path: FastPath = self.app_state.get("fast_path")  # type: ignore[assignment]
        self.urls = self.fast_path.urls if self.fast_path else ()
        self.known_heads = self.fast_path.known_heads if self.fast_path else {}
        self.request: RecordRequest | None = None
        self.is_between = True  # the next byte begins a request
        self.begun = 0  # requests that began in the bytes received last; 2 if these began within a request

    def data_received(self, data: bytes) -> None:
        """Parse a request, unless its head is, byte for byte, one that was parsed before.

        The parser would find the same in it again: between two requests it keeps no state.
        """
        self.begun = 2
        if self.is_between:
            self.begun = 0
            end = data.find(HEAD_END)
            known = self.known_heads.get(data[:end])
            if known and known.size == len(data) and self._is_next() and self._admits(known.digest):
                self._unset_keepalive_if_required()
                self.unparsed_bytes = 0
                self.cycle = request = RecordRequest(self, new_id(), known.length)  # type: ignore[assignment]
                request.body = data[end + len(HEAD_END) :]
                self.fast_path.decode(request)
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Uvicorn makes the ASGI scope here. It is made only once it is known to be needed."""
        self.is_between = False
        self.begun += 1
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        if self.url in self.urls and (request := self._plain_request()):
            self.cycle = self.request = request  # type: ignore[assignment]
            self.unparsed_bytes = 0
            if self.fast_path.batcher.is_full():
                self.fast_path.send(request, self.fast_path.overload)
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers = self.scope["headers"] = headers
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self.request is None:
            super().on_body(body)
        else:
            self.unparsed_bytes = 0
            self.request.body += body  # of a body in one piece, no copy

    def on_message_complete(self) -> None:
        self.is_between = True
        request, self.request = self.request, None
        if request is None:
            super().on_message_complete()
            return
        self._remember(request)
        if not request.response_complete:
            self.fast_path.decode(request)

    def _unsupported_upgrade_warning(self) -> None:
        """What follows such a head is its body, though the parser has reported a complete message."""
        self.is_between = False
        super()._unsupported_upgrade_warning()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.request and not self.request.response_complete:
            self.fast_path.record(CLIENT_CLOSED, [(self.request, 0)])

    def respond(self, request: RecordRequest, head: bytes, body: bytes) -> None:
        """Write a response, and close the connection if that was agreed."""
        request.response_complete = True
        if not self.transport.is_closing():  # its client may have gone
            closes = not request.keep_alive or self.fast_path.shutdown.stopping
            self.transport.write(b"%b%b\r\n%b" % (head, b"connection: close\r\n" if closes else b"", body))
            if closes:
                self.transport.close()
        if self.pipeline:
            self.on_response_complete()

    def _remember(self, request: RecordRequest) -> None:
        """Remember the head of a request, if it and nothing else was received last."""
        data, end = self.data, self.data.find(HEAD_END)
        is_whole = self.begun == 1 and data[end + len(HEAD_END) :] == request.body
        if is_whole and end <= MAX_KNOWN_HEAD_BYTES and ID not in dict(self.headers):
            if len(self.known_heads) >= MAX_KNOWN_HEADS:
                self.known_heads.clear()
            digest = sha256(sent_key(self.headers)).digest() if self.fast_path.keys else b""
            self.known_heads[data[:end]] = KnownHead(len(data), request.bytes_in, digest)

    def _is_next(self) -> bool:
        """Whether this request may be answered here, and now.

        Responses keep the order of requests, and wait for slow readers.
        """
        is_answered = self.cycle is None or self.cycle.response_complete
        waits = self.flow.write_paused or self.fast_path.shutdown.stopping or self.transport.is_closing()
        return is_answered and not waits

    def _admits(self, digest: bytes) -> bool:
        """Whether the key with this digest is still valid for predictions."""
        if not self.fast_path.keys:
            return True
        key = self.fast_path.keys.find_digest(digest)
        return key is not None and key.scope == "all"

    def _is_authenticated(self) -> bool:
        if self.fast_path.keys:
            try:
                authenticate(self.fast_path.keys, PATH, self.headers)
            except Problem:
                return False
        return True

    def _plain_request(self) -> RecordRequest | None:
        """Return the request whose head is complete, or None if it must go the ordinary way."""
        fast_path, parser = self.fast_path, self.parser
        examined = [header for header in self.headers if header[0] in fast_path.examined]
        found = dict(examined)
        length, id_ = int(found.get(LENGTH, 0)), found.get(ID, b"")
        if len(found) < len(examined) or not fast_path.not_plain.isdisjoint(found):
            return None
        if found.get(TYPE) != JSON[1] or not 0 < length <= fast_path.max_body or parser.get_method() != b"POST":
            return None
        if CONNECTION in found and parser.get_http_version() != "1.1":  # others keep no connection without it
            return None
        is_small = self.unparsed_bytes <= self.small_head_bytes
        if not (is_small and parser.should_keep_alive() and self._is_next() and self._is_authenticated()):
            return None
        hosts = [found[HOST]] if HOST in found else []
        if hosts != self.sent_hosts:
            self._check_hosts(hosts)
        return RecordRequest(self, id_ if REQUEST_ID.fullmatch(id_) else new_id(), length)


def _lines(headers: Iterable[Header]) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)
