"""An answer that is read while its request is still being sent: http.client alone would send all of it first."""

import selectors
import ssl
import time
from io import BufferedReader, RawIOBase
from typing import Any, Protocol

PIECE = 2**18  # bytes that are asked for at once
Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)  # poll needs no file of its own


class Body(Protocol):
    """What a request's body is read from."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, as soon as there are any; none at the end."""


class Duplex(RawIOBase):
    """A connected socket to read from, which sends whenever there is nothing to read: first bytes, then HTTP's chunks.

    patience: seconds in which nothing goes either way; until: the end of all patience, on the monotonic clock
    """

    def __init__(
        self, sock: Any, body: Body | None, patience: float, until: float = float("inf"), first: bytes = b""
    ) -> None:
        self.sock, self.body, self.patience, self.until = sock, body, patience, until
        self.rest = memoryview(first)
        sock.setblocking(False)

    def makefile(self, _mode: str) -> BufferedReader:
        """As http.client asks a socket."""
        return BufferedReader(self, PIECE)

    def readable(self) -> bool:
        """It is."""
        return True

    @property
    def sent(self) -> bool:
        """Whether all of the request is."""
        return not self.rest and not self.body

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
        readable, writable = ready(self.sock, bool(self.rest), min(self.patience, self.until - time.monotonic()))
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


def ready(sock: Any, sending: bool, seconds: float) -> tuple[bool, bool]:
    """Whether there is something to read, or that has ended, and room to send; waits for either."""
    with Selector() as selector:
        selector.register(sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if sending else 0))
        events = sum(event for _, event in selector.select(max(seconds, 0)))
    return bool(events & selectors.EVENT_READ), bool(events & selectors.EVENT_WRITE)
