"""Where the service is, the connections that lead there, and one request over one of them."""

import re
import socket
import ssl
import time
from collections import deque
from dataclasses import dataclass
from http.client import HTTPMessage, HTTPResponse
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from service.client.duplex import Body, Duplex, ready

KEY = re.compile(r"[!-~]+")
IDLE = 16  # connections that are kept for later
LARGEST = 2**26  # bytes of an answer that is read as a whole


class Stop:
    """Whether a call is still wanted; `stop`, from another thread, ends what it waits for."""

    def __init__(self) -> None:
        self.stopped = Event()
        self.connection: Connection | None = None

    def stop(self) -> None:
        """Nobody waits any more."""
        self.stopped.set()
        if self.connection:
            self.connection.abort()

    def holds(self, connection: "Connection | None") -> None:
        """The connection that the call waits for from now on."""
        self.connection = connection
        if connection and self.stopped.is_set():
            connection.abort()


@dataclass(frozen=True)
class Address:
    """Of a service, perhaps behind a path of a proxy."""

    host: str
    port: int
    netloc: str
    path: str
    context: ssl.SSLContext | None

    @classmethod
    def of(cls, url: str, context: ssl.SSLContext | None = None) -> "Address":
        """Of a URL. Raises ValueError, which does not repeat what may be a password."""
        found = urlsplit(url)
        wrong = found.scheme not in ("http", "https") or not found.hostname or found.query or found.fragment
        if wrong or found.username or not re.fullmatch(r"[!-~]+", url):
            raise ValueError("a service's address is a URL such as http://127.0.0.1:8000")
        secure = found.scheme == "https"
        if secure and context is None:
            context = ssl.create_default_context()
        assert found.hostname
        found.hostname.encode("idna")  # raises UnicodeError, a ValueError
        port = found.port or (443 if secure else 80)
        return cls(found.hostname, port, found.netloc, found.path.rstrip("/"), context if secure else None)

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.host}:{self.port}"


class Connection:
    """One, kept alive between requests."""

    def __init__(self, address: Address, seconds: float) -> None:
        self.used = False
        plain = socket.create_connection((address.host, address.port), max(seconds, 0.001))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = address.context
        try:
            self.sock = context.wrap_socket(plain, server_hostname=address.host) if context else plain
        except BaseException:
            plain.close()
            raise

    def ask(self, method: str, first: bytes, body: Body | None, patience: float, until: float) -> "Response":
        """Send the request's head, with a body that is there or one that is still read; returns when an answer begins.

        Raises OSError and http.client.HTTPException.
        """
        duplex = Duplex(self.sock, body, patience, until, first)
        found: Any = duplex  # all of a socket that http.client uses
        response = HTTPResponse(found, method=method)
        response.begin()
        self.used = True
        return Response(self, duplex, response)

    def idle(self) -> bool:
        """Whether it may still be used: a service that has closed it, or speaks unasked, has something to read."""
        return not ready(self.sock, False, 0)[0]

    def abort(self) -> None:
        """Fail whoever waits for it in another thread."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended

    def close(self) -> None:
        """Nothing more is wanted of it."""
        self.sock.close()


@dataclass(frozen=True)
class Response:
    """An answer that has begun."""

    connection: Connection
    duplex: Duplex
    http: HTTPResponse

    @property
    def status(self) -> int:
        """Of HTTP."""
        return self.http.status

    @property
    def headers(self) -> HTTPMessage:
        """By name, in any case."""
        return self.http.headers

    @property
    def reusable(self) -> bool:
        """Whether the connection can take another request: both sides have said all that they had to say."""
        return self.http.isclosed() and not self.http.will_close and self.duplex.sent


class Pool:
    """Connections that nobody uses at the moment; for any number of threads."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.idle: deque[Connection] = deque()  # whose append and pop no thread sees half done
        self.closed = False

    def take(self, timeout: float, until: float) -> Connection:
        """One that has been used and still lives, or a new one. Raises OSError."""
        if self.closed:
            raise RuntimeError("the client is closed")
        while self.idle:
            try:
                connection = self.idle.pop()
            except IndexError:
                break  # another thread was faster
            if connection.idle():
                return connection
            connection.close()
        return Connection(self.address, min(timeout, until - time.monotonic()))

    def give(self, response: Response) -> None:
        """Back, if it can be used again."""
        if response.reusable and not self.closed and len(self.idle) < IDLE:
            self.idle.append(response.connection)
        else:
            response.connection.close()

    def clear(self) -> None:
        """Close those that nobody uses."""
        while self.idle:
            try:
                self.idle.pop().close()
            except IndexError:
                break

    def close(self) -> None:
        """For good."""
        self.closed = True
        self.clear()
