"""Records that wait at the same moment go through the model together, without any timer.

A lone record runs at once: the run is the next thing that the event loop does. Under load the loop first reads what all
ready connections have sent, and then one run serves them all.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

import numpy as np

from patient.encoding import as_array
from service.answers import rounded
from service.body import Values
from service.counts import Counts
from service.errors import Problem
from service.predictor import Predictor

Answer = tuple[Predictor, float]  # the model that answered, and its rounded probability


class Runs:
    """A bounded queue of records in front of a model. Lives in one event loop."""

    def __init__(self, model: Callable[[], Predictor], limit: int, counts: Counts) -> None:
        self.model, self.limit, self.counts = model, limit, counts
        self.waiting: list[tuple[Values, asyncio.Future[Answer]]] = []

    def submit(self, values: Values) -> asyncio.Future[Answer]:
        """The record's answer, once its run is through. Raises Problem 503 when `limit` records wait already."""
        if len(self.waiting) >= self.limit:
            self.counts.overload()
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "Too many requests wait.", headers={"Retry-After": "1"})
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        if not self.waiting:
            loop.call_soon(self._run)
        self.waiting.append((values, future))
        return future

    def _run(self) -> None:
        waiting, self.waiting = self.waiting, []
        try:
            model = self.model()  # one for the whole run: no answer mixes two
            rows = as_array(values for values, _ in waiting).astype(np.float32)
            probabilities = rounded(model(rows)).tolist()
        except Exception as error:  # each of those who wait gets it, or they would wait forever
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        self.counts.ran("single", len(waiting))
        for (_, future), probability in zip(waiting, probabilities, strict=True):
            if not future.done():  # its client may have gone meanwhile
                future.set_result((model, probability))
