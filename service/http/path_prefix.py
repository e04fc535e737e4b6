"""Serve below a path prefix, such as /heart, that a proxy strips or passes on."""

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service.settings import is_prefix

DOCS = "/docs"
FORWARDED = b"x-forwarded-prefix"


class PathPrefixMiddleware:
    """Strip the prefix from paths that have it, and tell /docs, whose links need it; all others are relative.

    prefix: what the settings say; trusts_header: whether X-Forwarded-Prefix, which a client may send too, says more
    """

    def __init__(self, app: ASGIApp, prefix: str, trusts_header: bool) -> None:
        self.app, self.prefix, self.trusts_header = app, prefix, trusts_header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (prefix := self._prefix_of(scope)):
            path: str = scope["path"]
            if path == prefix:  # the page's links are relative to its folder
                await RedirectResponse(f"{prefix}/", 308)(scope, receive, send)
                return
            if path.startswith(f"{prefix}/"):
                scope["path"] = path.removeprefix(prefix)
                scope["raw_path"] = scope["raw_path"].removeprefix(prefix.encode())
            if scope["path"] == DOCS:  # elsewhere Starlette would strip it from paths that do not have it any more
                scope["root_path"] = prefix
        await self.app(scope, receive, send)

    def _prefix_of(self, scope: Scope) -> str:
        if not self.trusts_header:
            return self.prefix
        sent = [value.decode("latin-1").rstrip("/") for name, value in scope["headers"] if name == FORWARDED]
        return sent[0] if len(sent) == 1 and is_prefix(sent[0]) else self.prefix
