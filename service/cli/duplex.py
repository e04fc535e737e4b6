"""A request whose answer comes while its body is still being sent: http.client alone would send all of it first."""

import http.client
import select
import ssl
from io import BufferedReader, RawIOBase
from typing import Any

from service.cli.attempt import said
from service.tables.faults import TableError
from service.tables.source import PIECE, Source

PATIENCE = 3600.0  # seconds in which nothing goes either way: a service that spools answers late


class Answered:
    """A response while it comes, as a file for pyarrow; whoever reads it sends the request's body meanwhile."""

    closed = False

    def __init__(self, connection: http.client.HTTPConnection, method: str, body: Source | None) -> None:
        self.connection = connection
        duplex: Any = Duplex(connection.sock, body)  # all of a socket that http.client uses
        self.response = http.client.HTTPResponse(duplex, method=method)
        self.response.begin()
        self.headers = self.response.headers

    def read(self, size: int | None = None, /) -> bytes:
        """As of a file. Raises TableError where the answer ends before its end."""
        try:
            return self.response.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise TableError(f"The service broke its answer off: {said(error)}.") from None

    def close(self) -> None:
        """Nothing that comes after is wanted."""
        self.connection.close()

    def __enter__(self) -> "Answered":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Duplex(RawIOBase):
    """A connected socket to read from, which sends a body, in HTTP's chunks, whenever there is nothing to read."""

    def __init__(self, sock: Any, body: Source | None) -> None:
        self.sock, self.body = sock, body
        self.rest = memoryview(b"")
        sock.setblocking(False)

    def makefile(self, _mode: str) -> BufferedReader:
        """As http.client asks a socket."""
        return BufferedReader(self, PIECE)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, into: Any, /) -> int:
        """As of a raw stream. Raises TimeoutError, and what reading the body raises."""
        while True:
            try:
                return int(self.sock.recv_into(into))
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self._wait()

    def _wait(self) -> None:
        """Until there may be something to read; sends what the other side takes."""
        self._fill()
        readable, writable, _ = select.select([self.sock], [self.sock] if self.rest else [], [], PATIENCE)
        if not readable and not writable:
            raise TimeoutError("it has stopped answering")
        if writable:
            try:
                self.rest = self.rest[self.sock.send(self.rest) :]
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            except (BrokenPipeError, ConnectionResetError):  # it has heard enough, and has perhaps said why
                self.body, self.rest = None, memoryview(b"")

    def _fill(self) -> None:
        if self.rest or not self.body:
            return
        data = self.body.read(PIECE)
        if not data:
            self.body = None
        self.rest = memoryview(b"%x\r\n%b\r\n" % (len(data), data))
