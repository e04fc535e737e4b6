"""Send requests: retries, deadlines, and exceptions for failures. Thread-safe."""

import random
import re
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from service.client.duplex import Body
from service.client.errors import NotThisService, ServiceError, Unavailable, error_of_response
from service.client.transport import Address, Cancellation, Connection, Pool, Response

REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")  # what the service accepts
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.05, 2.0  # upper limits of the first pause and of all
TABLE_IDLE_SECONDS = 3600.0  # without a byte in either direction: a service that buffers a table responds late
MAX_RESPONSE_BYTES = 2**26  # of a response that is read as a whole
NETWORK_ERRORS = (OSError, HTTPException, ValueError, OverflowError)  # the last two for numbers that http.client reads
Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """A request with all its attempts.

    first: the head, and the content if it is sent as a whole
    body: what follows; it is read while the response arrives, and may take longer than `until`
    until: the end of all attempts, on the monotonic clock
    """

    first: bytes
    body: Body | None
    id: str
    until: float
    cancellation: Cancellation


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
        if key is not None and not re.fullmatch(r"[!-~]+", key):
            raise ValueError("Invalid API key: it contains characters that are not allowed.")
        if not timeout > 0 or not deadline > 0:
            raise ValueError("timeout and deadline must be seconds, above 0")
        self.pool = Pool(Address(url, context))
        self.key, self.timeout, self.deadline, self.retries = key, timeout, deadline, retries

    def request(
        self,
        path: str,
        headers: Mapping[str, str],
        content: bytes,
        body: Body | None,
        request_id: str | None,
        cancellation: Cancellation,
    ) -> Request:
        """Prepare a POST request, or a GET request without content and body.

        Raises ValueError for a request id that the service would not accept.
        """
        if request_id is not None and not REQUEST_ID.fullmatch(request_id):
            raise ValueError("a request id has up to 128 letters, digits and _.:-")
        request_id = request_id or secrets.token_hex(8)
        address, method = self.pool.address, "POST" if content or body else "GET"
        lines = [f"{method} {address.path}{path} HTTP/1.1", f"Host: {address.netloc}", f"X-Request-ID: {request_id}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if self.key:
            lines.append(f"Authorization: Bearer {self.key}")
        if body:
            lines.append("Transfer-Encoding: chunked")
        elif content:
            lines.append(f"Content-Length: {len(content)}")
        first = "\r\n".join([*lines, "\r\n"]).encode("latin-1") + content
        return Request(first, body, request_id, time.monotonic() + self.deadline, cancellation)

    def send(
        self, path: str, content: bytes, response_type: type[Model], request_id: str | None, cancellation: Cancellation
    ) -> Model:
        """Send a request and parse its response. Raises ServiceError."""
        headers = {"Content-Type": "application/json"} if content else {}
        request = self.request(path, headers, content, None, request_id, cancellation)

        def attempt() -> Model:
            response = self.open(request)
            received = self._read(response, request.id)
            cancellation.attach(None)
            self.pool.put(response)
            try:
                return response_type.model_validate_json(received)
            except ValidationError:  # its message would repeat the response
                message = f"The response from {self.pool.address.where} is not that of a service of this kind."
                raise NotThisService(message, request.id) from None

        return self.retry(attempt, request)

    def retry(self, attempt: Callable[[], T], request: Request) -> T:
        """Repeat `attempt` while it raises Unavailable and another may succeed in time. Raises ServiceError."""
        limit = FIRST_PAUSE_SECONDS
        while True:
            try:
                return attempt()
            except Unavailable as error:
                if not self.retries or error.after is None:
                    raise
                pause = error.after + random.uniform(0, limit)  # noqa: S311  # no secret
                if time.monotonic() + pause > request.until or request.cancellation.cancelled.wait(pause):
                    raise
            limit = min(limit * 2, MAX_PAUSE_SECONDS)

    def open(self, request: Request) -> Response:
        """Send a request once; return a response with status 200 when its head is there. Raises ServiceError."""
        try:
            connection = self.pool.get(self.timeout, request.until)
            try:
                response = self._open(connection, request)
            except ConnectionError:
                if not connection.used or request.body:
                    raise
                self.pool.clear()  # the service has closed idle connections
                response = self._open(self.pool.get(self.timeout, request.until), request)
        except NETWORK_ERRORS as error:
            raise self.to_service_error(error, request.id) from None
        if response.status == 200:
            return response
        request_id = response_id(response, request.id)
        problem = self._read(response, request_id)
        self.pool.put(response)
        raise error_of_response(response.status, response.headers, problem, self.pool.address.where, request_id)

    def _open(self, connection: Connection, request: Request) -> Response:
        request.cancellation.attach(connection)
        try:
            if request.body:
                return connection.send(request.first, request.body, TABLE_IDLE_SECONDS, float("inf"))
            return connection.send(request.first, None, self.timeout, request.until)
        except BaseException:
            request.cancellation.attach(None)
            connection.close()
            raise

    def _read(self, response: Response, request_id: str) -> bytes:
        """Read a whole response. Raises ServiceError."""
        try:
            if (response.length or 0) > MAX_RESPONSE_BYTES:
                message = f"The response from {self.pool.address.where} is too large."
                raise NotThisService(message, request_id, response.status)
            if response.length is not None:
                return response.read()  # with a size, http.client would not notice that the response is cut off
            content = response.read(MAX_RESPONSE_BYTES)
            if not content and not response.chunked:
                raise IncompleteRead(b"")  # the head was cut off
            return content
        except BaseException as error:
            response.connection.close()
            if isinstance(error, NETWORK_ERRORS):
                raise self.to_service_error(error, request_id) from None
            raise

    def to_service_error(self, error: Exception, request_id: str) -> ServiceError:
        """Return the exception to raise for a failure of the network or of the server."""
        where = self.pool.address.where
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unavailable(f"The certificate of {where} is not trusted: {error.verify_message}.", request_id)
        if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return NotThisService(f"{where} does not speak TLS.", request_id)
        if isinstance(error, IncompleteRead):
            return Unavailable(f"The response from {where} was cut off.", request_id, after=0.0)
        if not isinstance(error, (OSError, RemoteDisconnected)):
            return NotThisService(f"{where} does not speak HTTP.", request_id)
        is_final = isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN
        message = f"No service answers at {where}: {describe_error(error)}."
        return Unavailable(message, request_id, after=None if is_final else 0.0)


def response_id(response: Response, request_id: str) -> str:
    """Return the id that the service has given the request, if it is one."""
    found = response.headers.get("X-Request-ID", "")
    return found if REQUEST_ID.fullmatch(found) else request_id


def describe_error(error: Exception) -> str:
    """Return one line that describes an error of the operating system or of HTTP, without a full stop."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")
