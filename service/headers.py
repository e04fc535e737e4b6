"""Headers that go with every answer, so that a browser does nothing with it but what we mean."""

import base64
import hashlib
import re
from functools import lru_cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Headers = tuple[tuple[bytes, bytes], ...]

ALWAYS: Headers = (
    (b"cache-control", b"no-store"),  # a patient's probability lies in nobody's cache
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
POLICY = b"content-security-policy"
SAFE: Headers = (*ALWAYS, (POLICY, b"default-src 'none'; frame-ancestors 'none'"))
SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


class Safe:
    """An ASGI layer that puts them on. They are no more than tuples added: single records pass here."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection event."""
        if scope["type"] != "http" or scope["path"].startswith("/docs"):
            send = _Page(send) if scope["type"] == "http" else send
            await self.app(scope, receive, send)
            return

        def safely(message: Message):  # type: ignore[no-untyped-def]  # what send gives: no second coroutine around it
            if message["type"] == "http.response.start":
                message = {**message, "headers": (*message["headers"], *SAFE)}
            return send(message)

        await self.app(scope, receive, safely)


class _Page:
    """The way back of a page, which runs the scripts that stand in it, and others of ours, and nobody else's."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.start: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            return
        if self.start:
            headers = (*self.start["headers"], *ALWAYS, (POLICY, _policy(bytes(message.get("body", b"")))))
            await self.send({**self.start, "headers": headers})
            self.start = None
        await self.send(message)


@lru_cache
def _policy(page: bytes) -> bytes:
    hashes = (base64.b64encode(hashlib.sha256(script).digest()) for script in SCRIPT.findall(page))
    scripts = b" ".join((b"'self'", *(b"'sha256-%b'" % digest for digest in hashes)))
    return (
        b"default-src 'none'; script-src %b; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" % scripts
    )
