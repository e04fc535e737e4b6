"""Connections to the service, and one request over one of them."""

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

from service.client.duplex import Body, Duplex, wait_for_socket

KEY = re.compile(r"[!-~]+")
MAX_IDLE_CONNECTIONS = 16
MAX_RESPONSE_BYTES = 2**26  # of a response that is read as a whole


class Cancellation:
    """Cancel a call from another thread."""

    def __init__(self) -> None:
        self.cancelled = Event()
        self.connection: Connection | None = None

    def cancel(self) -> None:
        self.cancelled.set()
        if self.connection:
            self.connection.abort()

    def attach(self, connection: "Connection | None") -> None:
        """Set the connection that `cancel` aborts."""
        self.connection = connection
        if connection and self.cancelled.is_set():
            connection.abort()


@dataclass(frozen=True)
class Address:
    """The address of a service, possibly under a path of a proxy."""

    host: str
    port: int
    netloc: str
    path: str
    context: ssl.SSLContext | None

    @classmethod
    def of(cls, url: str, context: ssl.SSLContext | None = None) -> "Address":
        """Parse a URL. Raises ValueError, without repeating what may be a password."""
        parts = urlsplit(url)
        is_wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment
        if is_wrong or parts.username or not re.fullmatch(r"[!-~]+", url):
            raise ValueError("a service's address is a URL such as http://127.0.0.1:8000")
        is_secure = parts.scheme == "https"
        if is_secure and context is None:
            context = ssl.create_default_context()
        assert parts.hostname
        parts.hostname.encode("idna")  # raises UnicodeError, a ValueError
        port = parts.port or (443 if is_secure else 80)
        return cls(parts.hostname, port, parts.netloc, parts.path.rstrip("/"), context if is_secure else None)

    @property
    def where(self) -> str:
        """Host and port, for messages."""
        return f"{self.host}:{self.port}"


class Connection:
    """A connection, kept alive between requests."""

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

    def send(self, method: str, first: bytes, body: Body | None, idle_seconds: float, until: float) -> "Response":
        """Send `first`, then `body` while the response arrives; return when the response's head is there.

        Raises OSError and http.client.HTTPException.
        """
        duplex = Duplex(self.sock, body, idle_seconds, until, first)
        as_socket: Any = duplex  # it has all that http.client uses of a socket
        response = HTTPResponse(as_socket, method=method)
        response.begin()
        self.used = True
        return Response(self, duplex, response)

    def is_open(self) -> bool:
        """Whether an idle connection may be used again: something to read means that the service has closed it."""
        return not wait_for_socket(self.sock, False, 0)[0]

    def abort(self) -> None:
        """Make pending operations in other threads fail."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # already closed

    def close(self) -> None:
        self.sock.close()


@dataclass(frozen=True)
class Response:
    """A response whose head has arrived."""

    connection: Connection
    duplex: Duplex
    http: HTTPResponse

    @property
    def status(self) -> int:
        return self.http.status

    @property
    def headers(self) -> HTTPMessage:
        return self.http.headers

    @property
    def is_complete(self) -> bool:
        """Whether request and response are complete, so that the connection can take another request."""
        return self.http.isclosed() and not self.http.will_close and self.duplex.is_sent


class Pool:
    """Idle connections, for any number of threads."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.idle: deque[Connection] = deque()  # append and pop are atomic
        self.closed = False

    def get(self, timeout: float, until: float) -> Connection:
        """Return an idle connection that is still open, or a new one. Raises OSError."""
        if self.closed:
            raise RuntimeError("the client is closed")
        while self.idle:
            try:
                connection = self.idle.pop()
            except IndexError:
                break  # another thread took it
            if connection.is_open():
                return connection
            connection.close()
        return Connection(self.address, min(timeout, until - time.monotonic()))

    def put(self, response: Response) -> None:
        """Keep the response's connection if it can be used again, or close it."""
        if response.is_complete and not self.closed and len(self.idle) < MAX_IDLE_CONNECTIONS:
            self.idle.append(response.connection)
        else:
            response.connection.close()

    def clear(self) -> None:
        """Close all idle connections."""
        while self.idle:
            try:
                self.idle.pop().close()
            except IndexError:
                break

    def close(self) -> None:
        self.closed = True
        self.clear()
