"""Connections to the service, and one request over one of them."""

import re
import socket
import ssl
import time
from collections import deque
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from threading import Event
from typing import Any, cast
from urllib.parse import urlsplit

from service.client.duplex import Body, Duplex, wait_for_socket

MAX_IDLE_CONNECTIONS = 16
MAX_HEADS = 8  # of a response and the interim ones before it
MAX_TRAILERS, MAX_TRAILER_BYTES = 100, 2**16  # http.client's limits of headers


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
        """Set the connection that `cancel` aborts, and abort it if `cancel` was called before."""
        self.connection = connection
        if connection and self.cancelled.is_set():
            connection.abort()


class Address:
    """The address of a service, possibly under a path of a proxy. `where` is for messages.

    Raises ValueError for an invalid URL, without repeating what may be a password.
    """

    def __init__(self, url: str, context: ssl.SSLContext | None) -> None:
        parts = urlsplit(url)
        is_secure = parts.scheme == "https"
        if (
            not re.fullmatch(r"[!-~]+", url)
            or parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.username
            or parts.query
            or parts.fragment
        ):
            raise ValueError("a service's address must be a URL such as http://127.0.0.1:8000")
        parts.hostname.encode("idna")  # raises UnicodeError, a ValueError
        self.host, self.port = parts.hostname, parts.port or (443 if is_secure else 80)
        self.netloc, self.path, self.where = parts.netloc, parts.path.rstrip("/"), f"{self.host}:{self.port}"
        self.context = (context or ssl.create_default_context()) if is_secure else None


class Connection:
    """A connection, kept alive between requests. used: whether a response has arrived over it"""

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

    def send(self, first: bytes, body: Body | None, idle_seconds: float, until: float) -> "Response":
        """Send `first`, then `body`; return when the response's head is there. Raises OSError and HTTPException."""
        response = Response(self, Duplex(self.sock, first, body, idle_seconds, until))
        response.begin()
        response.duplex.end_head()
        self.used = True
        return response

    def is_open(self) -> bool:
        """Whether an idle connection may be used again: something to read means that the service has closed it."""
        return not wait_for_socket(self.sock, False, 0)[0]

    def abort(self) -> None:
        """Make pending operations in other threads fail."""
        with suppress(OSError):  # already closed
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.sock.close()


class Response(HTTPResponse):
    """A response; reading it sends the rest of the request."""

    def __init__(self, connection: Connection, duplex: Duplex) -> None:
        super().__init__(cast(Any, duplex))  # which has all that HTTPResponse uses of a socket
        self.connection, self.duplex = connection, duplex
        self.heads = 0  # read so far, those of interim responses (100 Continue) among them

    def _read_status(self) -> tuple[str, int, str]:  # http.client's own begins again after each interim response
        self.heads += 1
        if self.heads > MAX_HEADS:
            raise HTTPException("too many interim responses")
        found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
        return found

    def _read_and_discard_trailer(self) -> None:  # http.client's own would read them for ever
        for _ in range(MAX_TRAILERS):
            if self.fp.readline(MAX_TRAILER_BYTES) in (b"\r\n", b"\n", b""):
                return
        raise HTTPException("too many trailers")

    @property
    def is_complete(self) -> bool:
        """Whether all is sent and read, so that the connection can take another request."""
        return self.isclosed() and not self.will_close and self.duplex.is_sent


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
        with suppress(IndexError):  # there are no more
            while not (connection := self.idle.pop()).is_open():
                connection.close()
            return connection
        return Connection(self.address, min(timeout, until - time.monotonic()))

    def put(self, response: Response) -> None:
        """Keep the response's connection if it can be used again, or close it."""
        if response.is_complete and not self.closed and len(self.idle) < MAX_IDLE_CONNECTIONS:
            self.idle.append(response.connection)
        else:
            response.connection.close()

    def clear(self) -> None:
        with suppress(IndexError):
            while True:
                self.idle.pop().close()

    def close(self) -> None:
        self.closed = True
        self.clear()
