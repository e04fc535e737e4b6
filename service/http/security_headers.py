"""Middleware: security headers on every response.

Responses of the app get all of them, those of the outer middleware DATA_HEADERS, which protect data.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Header = tuple[bytes, bytes]
Headers = tuple[Header, ...]

# Caches must not store a patient's probability, and browsers must not interpret data as HTML.
DATA_HEADERS: Headers = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
ALL_HEADERS: Headers = (
    *DATA_HEADERS,
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
CSP = b"content-security-policy"
SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


class SecurityHeadersMiddleware:
    """Add each security header that a response does not have."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page: Message | None = None  # the head of an HTML page, until its content says which inline scripts it has

        async def send_with_headers(message: Message) -> None:
            nonlocal page
            if message["type"] == "http.response.start":
                if any(name == b"content-type" and kind.startswith(b"text/html") for name, kind in message["headers"]):
                    page = message
                    return
                message = {**message, "headers": with_security_headers(message["headers"])}
            elif page:
                await send({**page, "headers": with_security_headers(page["headers"], bytes(message.get("body", b"")))})
                page = None
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def with_security_headers(headers: Iterable[Header], page: bytes = b"") -> list[Header]:
    """Return a response's headers with all security headers. page: the HTML that it holds"""
    present = dict(headers)
    added = (*ALL_HEADERS, (CSP, content_security_policy(page)))
    return [*headers, *(header for header in added if header[0] not in present)]


@lru_cache
def content_security_policy(page: bytes = b"") -> bytes:
    """Allow a page this service's own files and the page's inline scripts, and nothing of any other origin.

    Inline styles are allowed only with inline scripts, as /docs has both; this service's page has neither.
    """
    hashes = [base64.b64encode(hashlib.sha256(script).digest()) for script in SCRIPT.findall(page)]
    inline_scripts = b"".join(b" 'sha256-%b'" % digest for digest in hashes)
    inline_styles = b" 'unsafe-inline'" if hashes else b""
    return (
        b"default-src 'none'; script-src 'self'%b; style-src 'self'%b; img-src 'self' data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'" % (inline_scripts, inline_styles)
    )
