"""Run the service with Uvicorn: in this process, or in several worker processes on one socket."""

import contextlib
import logging
import os
import resource
import signal
import socket
import sys
from collections import OrderedDict
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
from service.http.fast_path import FastPathProtocol
from service.http.hosts import accepted_hosts
from service.lifetime import end_with_parent
from service.model.device import ProviderError
from service.model.registry import ModelRegistry
from service.observe import log as logs
from service.observe.metrics import Metrics
from service.settings import Settings

MAX_OPEN_FILES = 2**16
ACCEPTS_PER_ITERATION = 8

log = logging.getLogger(__name__)


def serve(settings: Settings, registry: ModelRegistry, metrics: Metrics) -> None:
    """Serve until a signal. With several workers, each loads the model itself."""
    _raise_open_files_limit()
    signal.signal(signal.SIGTERM, lambda *_: None)  # Uvicorn raises it again once it has stopped: exit with 0
    if settings.workers == 1:
        app = create_app(settings, registry, metrics)
        with contextlib.suppress(KeyboardInterrupt):
            config = configure(settings, with_middleware(app))
            uvicorn.Server(config).run(_sockets(config))
        return
    with TemporaryDirectory(prefix="heart-") as folder:
        config = configure(settings, partial(_create_worker_app, settings, Path(folder)), factory=True)
        Supervisor(config, _sockets(config)).run()


class Supervisor(Multiprocess):
    """Uvicorn's supervisor, which replaces workers that were killed.

    At SIGHUP Uvicorn's would replace all workers; this one forwards the signal, so that each polls for a new model.
    """

    def handle_hup(self) -> None:
        for process in self.processes:
            if process.is_ready(1) and process.pid:  # a worker that is starting loads the newest model anyway
                os.kill(process.pid, signal.SIGHUP)


def _sockets(config: uvicorn.Config) -> list[socket.socket]:
    """The listening socket, duplicated: libuv accepts one connection per socket in an iteration of the event loop.

    An iteration is long under load, and some of a few hundred clients that connect at once would wait for seconds.
    """
    listening = config.bind_socket()
    return [listening, *(listening.dup() for _ in range(ACCEPTS_PER_ITERATION - 1))]


def configure(settings: Settings, app: ASGIApp | Callable[[], ASGIApp], factory: bool = False) -> uvicorn.Config:
    """Configure Uvicorn: its protocol, without what the service does itself."""
    return uvicorn.Config(
        app,
        factory=factory,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http=partial(FastPathProtocol, settings, accepted_hosts(settings), OrderedDict()),  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.grace,
        server_header=False,
        proxy_headers=False,  # the client's address is not used
    )


def _raise_open_files_limit() -> None:
    """Raise the soft limit, which is often 1,024, towards the hard one: each connection takes a file descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _create_worker_app(settings: Settings, folder: Path) -> ASGIApp:
    """Create the app of a worker process. If that fails the process exits, and the supervisor starts another one."""
    end_with_parent()  # workers without a supervisor would keep the port and say that they are ready
    logs.to_stderr(settings)
    metrics = Metrics(folder)
    registry = ModelRegistry(settings, metrics.record_reload)
    try:
        registry.start()
        app = create_app(settings, registry, metrics)
    except (ArtefactError, ApiKeysError, ProviderError) as error:
        log.error("a worker cannot start: %s", error)
        sys.exit(1)
    return with_middleware(app)
