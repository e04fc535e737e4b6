"""A request under way: what is measured of it, and its id, which every answer and log line bears."""

import re
import secrets
from collections.abc import Awaitable, Iterable
from contextvars import ContextVar
from itertools import count
from time import perf_counter

from starlette.types import Message, Receive, Scope, Send

SANE = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")  # an id that is taken from a client
CURRENT: ContextVar["Request | None"] = ContextVar("request", default=None)

_OURS = f"{secrets.token_hex(6)}-%x".encode()  # unique over processes, and within
_numbers = count(1)


class Request:
    """Passes on what its client and the application tell each other, and takes note of its size and end."""

    __slots__ = (
        "began",
        "bytes_in",
        "bytes_out",
        "ended",
        "id",
        "method",
        "rows",
        "status",
        "their_receive",
        "their_send",
        "version",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.began = perf_counter()
        self.method: str = scope["method"]
        self.their_receive, self.their_send = receive, send
        self.id = _identity(scope["headers"])
        self.status: int = 0  # until an answer begins
        self.ended = False
        self.bytes_in = self.bytes_out = 0
        self.rows: int | None = None  # that were scored
        self.version: str | None = None  # of the model

    async def receive(self) -> Message:
        """The next piece of the body."""
        message = await self.their_receive()
        if "body" in message:
            self.bytes_in += len(message["body"])
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """A piece of the answer, whose head gets the id. No coroutine of its own, which would cost one more."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", self.id)]}
        else:
            self.bytes_out += len(message.get("body", b""))
            self.ended = not message.get("more_body", False)
        return self.their_send(message)


def scored(rows: int, version: str) -> None:
    """Note what the request under way has come to, if there is one."""
    request = CURRENT.get()
    if request:
        request.rows, request.version = rows, version


def _identity(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    for name, value in headers:
        if name == b"x-request-id":
            return value if SANE.fullmatch(value) else _OURS % next(_numbers)
    return _OURS % next(_numbers)
