"""Application state shared by all handlers."""

import logging
from typing import cast

from fastapi import Request

from service.http.api_keys import ApiKeys
from service.http.fairness import Places
from service.http.fast_path import FastPath
from service.http.graceful_shutdown import GracefulShutdown
from service.http.limits import BoundedLock
from service.http.micro_batcher import MicroBatcher
from service.http.problems import busy
from service.http.streams import StreamPool
from service.isolation.pool import WorkerPool, shared_template
from service.model.predictor import Predictor
from service.observe.metrics import Metrics
from service.settings import Settings

JOBS = "service.api.jobs"  # which the workers run
WORKER_BYTES = 2**28  # of memory that a table may take, besides its largest part, received and decompressed

log = logging.getLogger(__name__)


class AppState:
    """Settings, keys, metrics, the model that serves, and the queues in front of it. Raises ApiKeysError."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.keys = ApiKeys(settings.keys) if settings.keys else None
        self.routes: list[str] = []  # templates
        self.shutdown = GracefulShutdown(settings.drain)
        self.model: Predictor | None = None  # the serving model; None until one is loaded
        self.fast_path: FastPath | None = None  # None: all requests go through the app
        self.batcher = MicroBatcher(self.ready_model, settings.max_waiting, metrics)
        self.workers = WorkerPool(shared_template(JOBS, settings), WORKER_BYTES + 2 * settings.max_part)
        tables = Places(settings.max_streams, "Too many tables at once.", "tables in progress", metrics, "streams")
        self.streams = StreamPool(tables, self.workers, settings.min_rate)
        batches = Places(settings.max_batches, "Too many batches are waiting.", "batches waiting", metrics, "batches")
        self.batches = BoundedLock(batches)
        explanations = Places(
            settings.max_explanations,
            "Too many explanations are waiting.",
            "explanations waiting",
            metrics,
            "explanations",
        )
        self.explanations = BoundedLock(explanations)

    @classmethod
    def of(cls, request: Request) -> "AppState":
        return cast(AppState, request.app.state.heart)

    def serve(self, model: Predictor) -> None:
        """Use this model for new requests; requests in progress finish with the model that they began with."""
        self.model = model
        self.metrics.set_model(model)
        log.info("serving model version %s on %s, sha256 %s", model.version, model.provider, model.digest)
        if model.fallback:
            log.warning("provider=auto fell back to the CPU: %s", model.fallback)

    def ready_model(self) -> Predictor:
        """The model that serves. Raises Problem 503 while there is none."""
        model = self.model
        if model is None:
            raise busy("No model is loaded yet.")
        if model.failure:
            self.metrics.set_gauge("ready", 0)
        if model.fallback:
            self.metrics.set_gauge("fallback", 1)
        return model
