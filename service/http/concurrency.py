"""How many requests are worked on at once; whoever comes beyond that is told when to come back."""

from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.authentication import PROBES
from service.http.problems import Problem, response
from service.observe.metrics import Counts


class Limit:
    """An ASGI layer that answers 503 beyond `most` requests. Probes are always let through.

    A request that waits for its client to send takes no place: a thousand slow ones would keep all others out.
    """

    def __init__(self, app: ASGIApp, most: int, counts: Counts) -> None:
        self.app, self.most, self.counts = app, most, counts
        self.busy = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection event."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self.app(scope, receive, send)
            return
        if self.busy >= self.most:
            self.counts.overload()
            full = Problem(HTTPStatus.SERVICE_UNAVAILABLE, "Too many requests at once.", headers={"Retry-After": "1"})
            await response(full)(scope, receive, send)
            return

        async def waiting() -> Message:
            self.busy -= 1
            try:
                return await receive()
            finally:
                self.busy += 1

        whole = not getattr(getattr(receive, "__self__", None), "more_body", True)  # as Uvicorn knows of most
        self.busy += 1
        try:
            await self.app(scope, receive if whole else waiting, send)
        finally:
            self.busy -= 1
