"""Send requests: retries, deadlines, and exceptions for failures. Thread-safe."""

import http.client
import random
import re
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from pydantic import ValidationError

from service.client.calls import Call
from service.client.duplex import Body
from service.client.errors import NotThisService, ServiceError, Unavailable, error_of_response
from service.client.transport import KEY, MAX_RESPONSE_BYTES, Address, Cancellation, Connection, Pool, Response

REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")  # what the service accepts
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.05, 2.0  # upper limits of the first pause and of all
TABLE_IDLE_SECONDS = 3600.0  # without a byte in either direction: a service that buffers a table responds late
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """A request with all its attempts.

    content: the body as a whole; or body: read while the response arrives, without regard to `until`
    until: the end of all attempts, on the monotonic clock
    """

    method: str
    path: str
    headers: Mapping[str, str]
    content: bytes | None
    body: Body | None
    request_id: str
    until: float
    cancellation: Cancellation

    def encode(self, address: Address, key: str | None) -> bytes:
        """Encode the head, followed by `content`."""
        lines = [f"{self.method} {address.path}{self.path} HTTP/1.1", f"Host: {address.netloc}"]
        lines += [f"{name}: {value}" for name, value in {"X-Request-ID": self.request_id, **self.headers}.items()]
        if key:
            lines.append(f"Authorization: Bearer {key}")
        if self.content is None:
            lines.append("Transfer-Encoding: chunked")
        elif self.method == "POST":
            lines.append(f"Content-Length: {len(self.content)}")
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + (self.content or b"")


class Sender:
    """What both clients share. See Client for the arguments."""

    def __init__(
        self,
        url: str,
        key: str | None,
        timeout: float,
        deadline: float,
        context: ssl.SSLContext | None,
        retries: bool = True,
    ) -> None:
        if key is not None and not KEY.fullmatch(key):
            raise ValueError("Invalid API key: it contains characters that are not allowed.")
        if not timeout > 0 or not deadline > 0:
            raise ValueError("timeout and deadline are seconds, above 0")
        self.pool = Pool(Address.of(url, context))
        self.key, self.timeout, self.deadline, self.retries = key, timeout, deadline, retries

    def send(self, call: Call[T], request_id: str | None, cancellation: Cancellation) -> T:
        """Send a call and parse its response. Raises ServiceError."""
        headers = {"Content-Type": "application/json"} if call.content else {}
        until = time.monotonic() + self.deadline
        id_ = checked_id(request_id)
        request = Request(call.method, call.path, headers, call.content, None, id_, until, cancellation)

        def attempt() -> T:
            response = self.open(request)
            content = self.read(response, id_)
            cancellation.attach(None)
            self.pool.put(response)
            try:
                return call.parse(content)
            except ValidationError:  # its message would repeat the response
                message = f"The response from {self.pool.address.where} is not that of a service of this kind."
                raise NotThisService(message, id_) from None

        return self.retry(attempt, until, cancellation)

    def retry(self, attempt: Callable[[], T], until: float, cancellation: Cancellation) -> T:
        """Repeat `attempt` while it raises Unavailable and another may succeed in time. Raises ServiceError."""
        for pause in pauses():
            try:
                return attempt()
            except Unavailable as error:
                wait = None if error.after is None else error.after + pause
                if (
                    not self.retries
                    or wait is None
                    or time.monotonic() + wait > until
                    or cancellation.cancelled.wait(wait)
                ):
                    raise
        raise AssertionError  # pauses never end

    def open(self, request: Request) -> Response:
        """Send a request once and return its response, of status 200, when the head is there. Raises ServiceError."""
        try:
            connection = self.pool.get(self.timeout, request.until)
            try:
                response = self._open(connection, request)
            except ConnectionError:
                if not connection.used or request.body:
                    raise
                self.pool.clear()  # the service has closed idle connections
                response = self._open(self.pool.get(self.timeout, request.until), request)
        except (OSError, http.client.HTTPException) as error:
            raise self.to_service_error(error, request.request_id) from None
        if response.status == HTTPStatus.OK:
            return response
        request_id = response.headers.get("X-Request-ID", request.request_id)
        problem = self.read(response, request_id)
        self.pool.put(response)
        raise error_of_response(response.status, response.headers, problem, self.pool.address.where, request_id)

    def _open(self, connection: Connection, request: Request) -> Response:
        first = request.encode(self.pool.address, self.key)
        request.cancellation.attach(connection)
        try:
            if request.body:
                return connection.send(request.method, first, request.body, TABLE_IDLE_SECONDS, float("inf"))
            return connection.send(request.method, first, None, self.timeout, request.until)
        except BaseException:
            request.cancellation.attach(None)
            connection.close()
            raise

    def read(self, response: Response, request_id: str) -> bytes:
        """Read a whole response. Raises ServiceError."""
        try:
            if (response.http.length or 0) > MAX_RESPONSE_BYTES:
                raise NotThisService(
                    f"The response from {self.pool.address.where} is too large.", request_id, response.status
                )
            has_length = response.http.length is not None
            # http.client notices a response that is shorter than announced only if it reads without a size.
            content = response.http.read() if has_length else response.http.read(MAX_RESPONSE_BYTES)
            if not content and not has_length and not response.http.chunked:
                raise http.client.IncompleteRead(b"")  # the head was cut off
        except (OSError, http.client.HTTPException) as error:
            response.connection.close()
            raise self.to_service_error(error, request_id) from None
        except BaseException:
            response.connection.close()
            raise
        return content

    def to_service_error(self, error: Exception, request_id: str) -> ServiceError:
        """Return the exception to raise for a failure of the network or of the server."""
        where, text = self.pool.address.where, describe_error(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unavailable(f"The certificate of {where} is not trusted: {error.verify_message}.", request_id)
        if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return NotThisService(f"{where} does not speak TLS.", request_id)
        if isinstance(error, socket.gaierror):
            after = 0.0 if error.errno == socket.EAI_AGAIN else None
            return Unavailable(f"No service answers at {where}: {text}.", request_id, after=after)
        if isinstance(error, http.client.IncompleteRead):
            return Unavailable(f"The response from {where} was cut off.", request_id, after=0.0)
        if isinstance(error, http.client.HTTPException) and not isinstance(error, http.client.RemoteDisconnected):
            return NotThisService(f"{where} does not speak HTTP.", request_id)
        return Unavailable(f"No service answers at {where}: {text}.", request_id, after=0.0)


def checked_id(request_id: str | None) -> str:
    """Return the request's id, or a new one. Raises ValueError for one that the service would not accept."""
    if request_id is not None and not REQUEST_ID.fullmatch(request_id):
        raise ValueError("a request's id is up to 128 letters, digits and _.:-")
    return request_id or secrets.token_hex(8)


def pauses() -> Iterator[float]:
    """Yield random pauses in seconds, with an upper limit that doubles each time."""
    limit = FIRST_PAUSE_SECONDS
    while True:
        yield random.uniform(0, limit)  # noqa: S311  # no secret
        limit = min(limit * 2, MAX_PAUSE_SECONDS)


def describe_error(error: Exception) -> str:
    """Return one line that describes an error of the operating system or of HTTP, without a full stop."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")
