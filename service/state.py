"""What the ways in share."""

from http import HTTPStatus
from typing import cast

from fastapi import Request

from service.counts import Counts
from service.errors import Problem
from service.predictor import Predictor
from service.runs import Runs
from service.settings import Settings
from service.turns import Turns


class State:
    """The settings, the model once there is one, the queues in front of it, and what has been done so far."""

    def __init__(self, settings: Settings, counts: Counts | None = None) -> None:
        self.settings = settings
        self.counts = counts or Counts()
        self.model: Predictor | None = None
        self.runs = Runs(self.ready_model, settings.max_waiting, self.counts)
        self.turns = Turns(settings.max_batches, self.counts, "batches")
        self.explanations = Turns(settings.max_explanations, self.counts, "explanations")

    @classmethod
    def of(cls, request: Request) -> "State":
        """The state of the app that this request came to."""
        return cast(State, request.app.state.heart)

    def ready_model(self) -> Predictor:
        """The model that serves. Raises Problem 503 while there is none."""
        if self.model is None:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "No model is loaded yet.", headers={"Retry-After": "1"})
        if self.model.failure:
            self.counts.ready(False)
        return self.model
