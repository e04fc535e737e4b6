"""What the routes of one app share."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

from fastapi import Request

from service.errors import Problem
from service.predictor import Predictor
from service.settings import Settings


@dataclass
class State:
    """The settings, and the model once there is one."""

    settings: Settings
    model: Predictor | None

    @classmethod
    def of(cls, request: Request) -> "State":
        """The state of the app that this request came to."""
        return cast(State, request.app.state.heart)

    def ready_model(self) -> Predictor:
        """The model that serves. Raises Problem 503 while there is none."""
        if self.model is None:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "No model is loaded yet.", headers={"Retry-After": "1"})
        return self.model
