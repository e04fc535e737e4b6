"""What the ways in share."""

import logging
from http import HTTPStatus
from typing import cast

from fastapi import Request

from service.http.api_keys import Keys
from service.http.gates import Turns
from service.http.micro_batcher import Runs
from service.http.problems import Problem
from service.model.predictor import Predictor
from service.observe.metrics import Counts
from service.settings import Settings

log = logging.getLogger(__name__)


class State:
    """The settings, the keys, the model once there is one, the queues in front of it, and what has been done so far."""

    def __init__(self, settings: Settings, counts: Counts | None = None) -> None:
        """Raises KeysError."""
        self.settings = settings
        self.counts = counts or Counts()
        self.keys = Keys(settings.keys) if settings.keys else None
        self.routes: list[str] = []  # their templates
        self.stopping = False  # not ready any more, though it still answers: see service/drain.py
        self._model: Predictor | None = None
        self.runs = Runs(self.ready_model, settings.max_waiting, self.counts)
        self.turns = Turns(settings.max_batches, self.counts, "batches")
        self.explanations = Turns(settings.max_explanations, self.counts, "explanations")

    @classmethod
    def of(cls, request: Request) -> "State":
        """The state of the app that this request came to."""
        return cast(State, request.app.state.heart)

    def serve(self, model: Predictor) -> None:
        """Let this model answer from now on. In the event loop; whoever has taken the one before goes on with it."""
        self.model = model
        log.info("model version %s serves on %s, sha256 %s", model.version, model.provider, model.digest)
        if model.fallback:
            log.warning("provider=auto fell back to the CPU: %s", model.fallback)

    @property
    def model(self) -> Predictor | None:
        """The model that serves, once there is one."""
        return self._model

    @model.setter
    def model(self, model: Predictor | None) -> None:
        self._model = model
        self.counts.serves(model)

    def ready_model(self) -> Predictor:
        """The model that serves. Raises Problem 503 while there is none."""
        model = self._model
        if model is None:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "No model is loaded yet.", headers={"Retry-After": "1"})
        if model.failure:
            self.counts.ready(False)
        if model.fallback:
            self.counts.fell_back(True)
        return model
