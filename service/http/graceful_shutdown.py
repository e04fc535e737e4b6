"""Graceful shutdown: on SIGTERM report not ready, keep serving for some seconds, then stop.

Load balancers notice at their next check of /health/ready. Until then requests are served as usual, and each response
closes its connection, so that the client's next request goes to another instance.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)


class GracefulShutdown:
    """The state of the shutdown. seconds: from SIGTERM until the server stops accepting requests."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.stopping = False

    @contextmanager
    def handling_sigterm(self) -> Iterator[None]:
        """Let SIGTERM begin the shutdown, and call the server's own handler when it is over.

        A second SIGTERM ends it at once, as Ctrl-C always does. Without a server that handles SIGTERM nothing changes.
        """
        stop = signal.getsignal(signal.SIGTERM)
        if not self.seconds or not callable(stop):
            yield
            return
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._begin, lambda: stop(signal.SIGTERM, None))
        yield
        loop.remove_signal_handler(signal.SIGTERM)

    def _begin(self, stop: Callable[[], object]) -> None:
        if self.stopping:
            stop()
            return
        log.info("shutting down: /health/ready is 503; still serving requests for %g s", self.seconds)
        self.stopping = True
        asyncio.get_running_loop().call_later(self.seconds, stop)


class CloseConnectionsMiddleware:
    """While the service is stopping, close each connection with its response."""

    def __init__(self, app: ASGIApp, shutdown: GracefulShutdown) -> None:
        self.app, self.shutdown = app, shutdown

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if not self.shutdown.stopping:
            return self.app(scope, receive, send)

        def send_closing(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            return send(message)

        return self.app(scope, receive, send_closing)
