"""What the ways in share."""

from http import HTTPStatus
from typing import cast

from fastapi import Request

from service.errors import Problem
from service.predictor import Predictor
from service.runs import Runs
from service.settings import Settings


class State:
    """The settings, the model once there is one, and the queue in front of it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.model: Predictor | None = None
        self.runs = Runs(self.ready_model, settings.max_waiting)

    @classmethod
    def of(cls, request: Request) -> "State":
        """The state of the app that this request came to."""
        return cast(State, request.app.state.heart)

    def ready_model(self) -> Predictor:
        """The model that serves. Raises Problem 503 while there is none."""
        if self.model is None:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "No model is loaded yet.", headers={"Retry-After": "1"})
        return self.model
