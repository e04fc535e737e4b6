"""A call from its first attempt to its last: retries, deadlines, and what becomes of failures. For any thread."""

import http.client
import random
import re
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import TypeVar

from pydantic import ValidationError

from service.client.calls import Call
from service.client.duplex import Body
from service.client.errors import NotThisService, ServiceError, Unavailable, refusal
from service.client.transport import KEY, LARGEST, Address, Connection, Pool, Response, Stop

SANE = re.compile(r"[A-Za-z0-9_.:-]{1,128}")  # an id that a service takes
FIRST, LONGEST = 0.05, 2.0  # seconds between attempts, at most: the first pause and the last
T = TypeVar("T")


class Core:
    """What the clients for threads and for asyncio share. See Client for its arguments."""

    def __init__(
        self,
        url: str,
        key: str | None,
        timeout: float,
        deadline: float,
        context: ssl.SSLContext | None,
        retry: bool = True,
    ) -> None:
        if key is not None and not KEY.fullmatch(key):
            raise ValueError("the key is none: it has characters that no key has")
        if not timeout > 0 or not deadline > 0:
            raise ValueError("timeout and deadline are seconds, above 0")
        self.pool = Pool(Address.of(url, context))
        self.key, self.timeout, self.deadline, self.retry = key, timeout, deadline, retry

    def do(self, call: Call[T], request_id: str | None, stop: Stop) -> T:
        """The answer to a call. Raises ServiceError."""
        number = identified(request_id)
        headers = {"Content-Type": "application/json"} if call.content else {}
        until = time.monotonic() + self.deadline

        def attempt() -> T:
            response = self.begun(call.method, call.path, headers, call.content, None, number, until, stop)
            body = self.whole(response, number)
            stop.holds(None)
            self.pool.give(response)
            return self._read(call.read, body, number)

        return self.retried(attempt, until, stop)

    def retried(self, attempt: Callable[[], T], until: float, stop: Stop) -> T:
        """Whatever it takes until an attempt has an answer, or it is no use, or too late. Raises ServiceError."""
        for pause in pauses():
            try:
                return attempt()
            except Unavailable as error:
                wait = None if error.after is None else error.after + pause
                if not self.retry or wait is None or time.monotonic() + wait > until or stop.stopped.wait(wait):
                    raise
        raise AssertionError  # there is always another pause

    def begun(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        content: bytes | None,
        body: Body | None,
        number: str,
        until: float,
        stop: Stop,
    ) -> Response:
        """A good answer that has begun, after one attempt. Raises ServiceError.

        content or body: of the request, as a whole, or to be read while the answer comes, which knows no `until`.
        """
        first = self._head(method, path, headers, content, number)
        try:
            connection = self.pool.take(self.timeout, until)
            try:
                response = self._asked(connection, method, first, body, until, stop)
            except ConnectionError:
                if not connection.used or body:
                    raise
                self.pool.clear()  # the service has closed it meanwhile, and the others too
                response = self._asked(self.pool.take(self.timeout, until), method, first, body, until, stop)
        except (OSError, http.client.HTTPException) as error:
            raise self.failure(error, number) from None
        if response.status == HTTPStatus.OK:
            return response
        number = response.headers.get("X-Request-ID", number)
        problem = self.whole(response, number)
        self.pool.give(response)
        raise refusal(response.status, response.headers, problem, self.pool.address.where, number)

    def _asked(
        self, connection: Connection, method: str, first: bytes, body: Body | None, until: float, stop: Stop
    ) -> Response:
        patience, until = (PATIENCE, float("inf")) if body else (self.timeout, until)
        stop.holds(connection)
        try:
            return connection.ask(method, first, body, patience, until)
        except BaseException:
            stop.holds(None)
            connection.close()
            raise

    def whole(self, response: Response, number: str) -> bytes:
        """All of an answer. Raises ServiceError."""
        try:
            if (response.http.length or 0) > LARGEST:
                raise NotThisService(f"{self.pool.address.where} answers without end.", number, response.status)
            # Only without a size does http.client tell an answer that is shorter than it says.
            known = response.http.chunked or response.http.length is not None
            body = response.http.read() if response.http.length is not None else response.http.read(LARGEST)
            if not body and not known:
                raise http.client.IncompleteRead(b"")  # even its head was cut off
        except (OSError, http.client.HTTPException) as error:
            response.connection.close()
            raise self.failure(error, number) from None
        except BaseException:
            response.connection.close()
            raise
        return body

    def failure(self, error: Exception, number: str) -> ServiceError:
        """What is raised where the network, or what is at its other end, has failed."""
        where, text = self.pool.address.where, said(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unavailable(f"{where} cannot prove who it is: {error.verify_message}.", number)
        if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return NotThisService(f"{where} does not speak TLS as it should.", number)
        if isinstance(error, socket.gaierror):
            after = 0.0 if error.errno == socket.EAI_AGAIN else None
            return Unavailable(f"No service answers at {where}: {text}.", number, after=after)
        if isinstance(error, http.client.IncompleteRead):
            return Unavailable(f"The service at {where} broke its answer off.", number, after=0.0)
        if isinstance(error, http.client.HTTPException) and not isinstance(error, http.client.RemoteDisconnected):
            return NotThisService(f"{where} does not speak HTTP as it should.", number)
        return Unavailable(f"No service answers at {where}: {text}.", number, after=0.0)

    def _head(self, method: str, path: str, headers: Mapping[str, str], content: bytes | None, number: str) -> bytes:
        address = self.pool.address
        lines = [f"{method} {address.path}{path} HTTP/1.1", f"Host: {address.netloc}", f"X-Request-ID: {number}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if self.key:
            lines.append(f"Authorization: Bearer {self.key}")
        if content is None:
            lines.append("Transfer-Encoding: chunked")
        elif method == "POST":
            lines.append(f"Content-Length: {len(content)}")
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + (content or b"")

    def _read(self, read: Callable[[bytes], T], body: bytes, number: str) -> T:
        try:
            return read(body)
        except ValidationError:  # whose words would repeat the answer
            raise NotThisService(
                f"{self.pool.address.where}: not the answer of a service of this kind.", number
            ) from None


PATIENCE = (
    3600.0  # seconds in which nothing goes either way, where a table is scored: a service that spools answers late
)


def identified(request_id: str | None) -> str:
    """The id of a request. Raises ValueError for one that the service would not take."""
    if request_id is not None and not SANE.fullmatch(request_id):
        raise ValueError("a request's id is up to 128 letters, digits and _.:-")
    return request_id or secrets.token_hex(8)


def pauses() -> Iterator[float]:
    """Seconds between attempts: twice as many each time, and never the same for all who wait."""
    longest = FIRST
    while True:
        yield random.uniform(0, longest)  # noqa: S311  # no secret
        longest = min(longest * 2, LONGEST)


def said(error: Exception) -> str:
    """What an operating system or a connection says went wrong: a line without its stop."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")
