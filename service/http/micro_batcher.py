"""Records that wait at the same moment go through the model together, without any timer.

A lone record runs at once: the run is the next thing that the event loop does. Under load the loop first reads what all
ready connections have sent, twice, and then one run serves them all.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from patient.encoding import as_bytes
from service.http.body import Values
from service.http.problems import Problem, no_probability
from service.model.predictor import Predictor
from service.observe.metrics import Counts
from service.records.results import SCALE

FULL = "Too many requests wait."
Answer = tuple[Predictor, float]  # the model that answered, and its rounded probability


class Runs:
    """A bounded queue of records in front of a model. Lives in one event loop."""

    def __init__(self, model: Callable[[], Predictor], limit: int, counts: Counts) -> None:
        self.model, self.limit, self.counts = model, limit, counts
        self.waiting: list[tuple[bytes, asyncio.Future[Answer]]] = []

    def submit(self, values: Values) -> asyncio.Future[Answer]:
        """The record's answer, once its run is through. Raises Problem 503 when `limit` records wait already."""
        if self.full():
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, FULL, headers={"Retry-After": "1"})
        if not self.waiting:
            self.loop = asyncio.get_running_loop()  # asked once a run: it costs a system call
            self.loop.call_soon(self._gather)
        future: asyncio.Future[Answer] = self.loop.create_future()
        self.waiting.append((as_bytes(values), future))
        return future

    def full(self) -> bool:
        """Whether the next record must be sent away. Counts it."""
        if len(self.waiting) < self.limit:
            return False
        self.counts.overload()
        return True

    def _gather(self) -> None:
        """A lone record runs now; where several came in one turn of the loop, those of the next turn join them."""
        if len(self.waiting) > 1:
            self.counts.gauge("records", len(self.waiting))
            self.loop.call_soon(self._run)
        else:
            self._run()

    def _run(self) -> None:
        waiting, self.waiting = self.waiting, []
        self.counts.gauge("records", 0)
        rows = [row for row, _ in waiting]
        try:
            model = self.model()  # one for the whole run: no answer mixes two
            probabilities = model.few(rows)
        except Exception as error:  # each of those who wait gets it, or they would wait forever
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        self.counts.ran("single", len(waiting))
        self.counts.saw(model, rows, probabilities)
        for (_, future), probability in zip(waiting, probabilities, strict=True):
            if future.done():  # its client may have gone meanwhile
                continue
            if 0 <= probability <= 1:  # NaN is not
                future.set_result((model, round(probability * SCALE) / SCALE))
            else:
                future.set_exception(no_probability([]))
