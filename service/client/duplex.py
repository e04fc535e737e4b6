"""Read a response while its request is still being sent, which http.client alone cannot do."""

import selectors
import ssl
import time
from http.client import HTTPException
from io import BufferedReader, RawIOBase
from typing import Any, Protocol

READ_BYTES = 2**18  # per read
MAX_HEAD_BYTES = 2**20  # of a response's head, with all interim responses (100 Continue), and READ_BYTES of its body
Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)  # poll needs no file descriptor of its own


class Body(Protocol):
    """What a request's body is read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, as soon as there are any; b"" at the end."""


class Duplex(RawIOBase):
    """A connected socket to read from. It sends `first`, then `body` in chunks, while there is nothing to read.

    Reading raises OSError, and what reading the body raises. It raises TimeoutError when nothing was received or sent
    for `idle_seconds`, and at the monotonic time `until`.

    head_bytes_left: that may be received before `end_head`
    """

    def __init__(self, sock: Any, first: bytes, body: Body | None, idle_seconds: float, until: float) -> None:
        self.sock, self.body, self.idle_seconds, self.until = sock, body, idle_seconds, until
        self.rest = memoryview(first)
        self.head_bytes_left: float = MAX_HEAD_BYTES
        sock.setblocking(False)

    def end_head(self) -> None:
        """Receive without a limit from here on."""
        self.head_bytes_left = float("inf")

    def makefile(self, _mode: str) -> BufferedReader:
        """Return a file, as a socket does: http.client calls this."""
        return BufferedReader(self, READ_BYTES)

    def readable(self) -> bool:
        return True

    @property
    def is_sent(self) -> bool:
        return not self.rest and not self.body

    def readinto(self, into: Any, /) -> int:
        while True:
            if time.monotonic() >= self.until:  # a server that always has something to say is late as well
                raise TimeoutError("it did not respond in time")
            try:
                size = int(self.sock.recv_into(into))
                self.head_bytes_left -= size
                if self.head_bytes_left < 0:
                    raise HTTPException("the head of the response is too large")
                return size
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self._wait()

    def _wait(self) -> None:
        """Wait until there may be something to read, or send what the socket takes."""
        if self.body and not self.rest:
            data = self.body.read(READ_BYTES)
            if not data:
                self.body = None
            self.rest = memoryview(b"%x\r\n%b\r\n" % (len(data), data))
        seconds = min(self.idle_seconds, self.until - time.monotonic())
        readable, writable = wait_for_socket(self.sock, bool(self.rest), seconds)
        if not readable and not writable:
            raise TimeoutError("it stopped responding")
        if writable:
            try:
                self.rest = self.rest[self.sock.send(self.rest) :]
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            except (BrokenPipeError, ConnectionResetError):  # the service stopped reading; its response may say why
                self.body, self.rest = None, memoryview(b"")


def wait_for_socket(sock: Any, sending: bool, seconds: float) -> tuple[bool, bool]:
    """Wait until the socket is readable or, if `sending`, writable; return both."""
    with Selector() as selector:
        selector.register(sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if sending else 0))
        events = sum(event for _, event in selector.select(max(seconds, 0)))
    return bool(events & selectors.EVENT_READ), bool(events & selectors.EVENT_WRITE)
