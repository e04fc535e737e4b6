"""Headers that go with every answer, so that a browser does nothing with it but what we mean.

What a browser may show has them all. Records' answers and problems have the two that matter to data: each costs 1 us.
"""

import base64
import hashlib
import re
from functools import lru_cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Headers = tuple[tuple[bytes, bytes], ...]

# What matters to data: nobody keeps a patient's probability, and nothing takes it for a page.
DATA: Headers = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
ALWAYS: Headers = (*DATA, (b"referrer-policy", b"no-referrer"), (b"cross-origin-resource-policy", b"same-origin"))
POLICY = b"content-security-policy"
SAFE: Headers = (*ALWAYS, (POLICY, b"default-src 'none'; frame-ancestors 'none'"))
SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


class Safe:
    """An ASGI layer that puts on all that an answer has not."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection event."""
        await self.app(scope, receive, _Way(send) if scope["type"] == "http" else send)


class _Way:
    """The way back of an answer. A page runs the scripts that stand in it, and files of ours, and nobody else's."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.page: Message | None = None  # the start of one, until its content says what it runs

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if any(name == b"content-type" and kind.startswith(b"text/html") for name, kind in message["headers"]):
                self.page = message
                return
            message = _with(message, SAFE)
        elif self.page:
            await self.send(_with(self.page, (*ALWAYS, (POLICY, _policy(bytes(message.get("body", b"")))))))
            self.page = None
        await self.send(message)


def _with(start: Message, headers: Headers) -> Message:
    there = {name for name, _ in start["headers"]}
    return {**start, "headers": [*start["headers"], *(header for header in headers if header[0] not in there)]}


@lru_cache
def _policy(page: bytes) -> bytes:
    hashes = (base64.b64encode(hashlib.sha256(script).digest()) for script in SCRIPT.findall(page))
    scripts = b" ".join((b"'self'", *(b"'sha256-%b'" % digest for digest in hashes)))
    return (
        b"default-src 'none'; script-src %b; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" % scripts
    )
