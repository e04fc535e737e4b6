"""One process that serves, or several on one socket: Uvicorn's supervisor replaces one that was killed."""

import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from patient.artefact import ArtefactError
from service.app import create_app, with_middleware
from service.http.api_keys import ApiKeysError
from service.http.connection import LimitedHttpProtocol
from service.model.device import ProviderError
from service.model.registry import ModelRegistry
from service.observe import log as logs
from service.observe.metrics import Metrics
from service.settings import Settings

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

DESCRIPTORS = 2**16
ACCEPTS = 8

log = logging.getLogger(__name__)


def serve(settings: Settings, registry: ModelRegistry, metrics: Metrics) -> None:
    """Serve until a signal. Several workers load the model each for itself."""
    _take_descriptors()
    signal.signal(signal.SIGTERM, lambda *_: None)  # which Uvicorn raises again when it has stopped: exit with 0
    if settings.workers == 1:
        app = create_app(settings, registry, metrics)
        with contextlib.suppress(KeyboardInterrupt):
            config = _config(settings, with_middleware(app))
            uvicorn.Server(config).run(_listening(config))
        return
    with TemporaryDirectory(prefix="heart-") as folder:
        config = _config(settings, partial(_worker, settings, Path(folder)), factory=True)
        Supervisor(config, _listening(config)).run()


class Supervisor(Multiprocess):
    """Uvicorn's, which at SIGHUP would replace all workers: ours look for a new model each."""

    def handle_hup(self) -> None:
        """Pass it on to those who listen; one that is starting takes the newest model anyway."""
        for process in self.processes:
            if process.is_ready(1) and process.pid:
                os.kill(process.pid, signal.SIGHUP)


def _listening(config: uvicorn.Config) -> list[socket.socket]:
    """The socket, ACCEPTS times: libuv takes one new connection of each in a round of the loop.

    A round is long under load, and a few hundred clients that came at once would wait for seconds.
    """
    bound = config.bind_socket()
    return [bound, *(bound.dup() for _ in range(ACCEPTS - 1))]


def _config(settings: Settings, app: ASGIApp | Callable[[], ASGIApp], factory: bool = False) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=factory,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http=partial(LimitedHttpProtocol, settings),  # type: ignore[arg-type]  # which makes one, as the class would
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.grace,
        server_header=False,
        proxy_headers=False,  # nobody asks who the client was
    )


def _take_descriptors() -> None:
    """As many as we may have: each connection takes one, and the soft limit of 1,024 is for older programs."""
    if resource:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _worker(settings: Settings, folder: Path) -> ASGIApp:
    """Called in each process. One that cannot load the model ends, and is tried again while the others serve."""
    logs.to_stderr(settings)
    metrics = Metrics(folder)
    registry = ModelRegistry(settings, metrics.record_reload)
    try:
        registry.start()
        app = create_app(settings, registry, metrics)
    except (ArtefactError, ApiKeysError, ProviderError) as error:
        log.error("a worker will not start: %s", error)
        sys.exit(1)
    return with_middleware(app)
