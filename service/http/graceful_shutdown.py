"""SIGTERM: say that it stops, serve on for a moment, then stop.

Whoever sends requests here (a proxy, a cluster) learns it from /health/ready, a moment later. Until then
nobody is turned away; every answer closes its connection, so that the next request goes elsewhere.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.state import State

log = logging.getLogger(__name__)


@contextmanager
def drained(state: State) -> Iterator[None]:
    """Let SIGTERM begin the drain, and pass it to the server's own handler once that is over.

    A second one ends it at once, as Ctrl-C always does. Without a server that handles SIGTERM nothing is changed.
    """
    stop = signal.getsignal(signal.SIGTERM)
    if not state.settings.drain or not callable(stop):
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, _begin, state, lambda: stop(signal.SIGTERM, None))
    yield
    loop.remove_signal_handler(signal.SIGTERM)


def _begin(state: State, stop: Callable[[], object]) -> None:
    if state.stopping:
        stop()
        return
    log.info("stopping: not ready from now on, and no longer served in %g s", state.settings.drain)
    state.stopping = True
    asyncio.get_running_loop().call_later(state.settings.drain, stop)


class Closing:
    """An ASGI layer: while the service stops, an answer ends its connection."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self.app, self.state = app, state

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One connection event."""
        if not self.state.stopping:
            return self.app(scope, receive, send)

        def closing(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            return send(message)

        return self.app(scope, receive, closing)
