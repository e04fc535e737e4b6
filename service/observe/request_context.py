"""A request under way: what is measured of it, and its id, which every answer and log line bears.

Every microsecond here is spent on every request: one object, no coroutine of its own where the body's length is told.
"""

import re
import secrets
from collections.abc import Awaitable
from contextvars import ContextVar
from itertools import count
from time import perf_counter

from starlette.types import Message, Receive, Scope, Send

from service.http.single_write import write

SANE = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")  # an id that is taken from a client
CURRENT: ContextVar["Request | None"] = ContextVar("request", default=None)

_OURS = f"{secrets.token_hex(6)}-%x".encode()  # unique over processes, and within
_numbers = count(1)


class Request:
    """Passes on what its client and the application tell each other, and takes note of sizes and end.

    bytes_in: of the body, as its client announced it, or else as it came; rows: that were scored, by model `version`
    """

    __slots__ = (
        "began", "bytes_in", "bytes_out", "ended", "id", "receive", "rows", "status", "their_receive", "their_send",
        "version",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.began = perf_counter()
        self.receive = self.their_receive = receive
        self.their_send = send
        self.status = self.bytes_out = 0  # until an answer begins
        self.ended = False
        self.rows: int | None = None
        self.version: str | None = None
        id_, length = b"", -1
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = int(value)
            elif name == b"x-request-id" and SANE.fullmatch(value):
                id_ = value
        self.id = id_ or _OURS % next(_numbers)
        self.bytes_in = length
        if length < 0:
            self.bytes_in, self.receive = 0, self._counted

    async def _counted(self) -> Message:
        """The next piece of a body of unknown length."""
        message = await self.their_receive()
        self.bytes_in += len(message.get("body", b""))
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """A piece of the answer, whose head gets the id."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self.id)]
            message = {"type": "http.response.start", "status": self.status, "headers": headers}
        else:
            self.bytes_out += len(message.get("body", b""))
            self.ended = not message.get("more_body", False)
        return self.their_send(message)

    def whole(self, body: bytes) -> bool:
        """Answer with 200 and JSON, if that can be in one write; else do nothing."""
        if not write(self.their_send, self.id, body):
            return False
        self.status, self.bytes_out, self.ended = 200, len(body), True
        return True


def scored(rows: int, version: str) -> None:
    """Note what the request under way has come to, if there is one."""
    request = CURRENT.get()
    if request is not None:
        request.rows, request.version = rows, version
