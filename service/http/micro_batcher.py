"""Run records that wait at the same moment through the model together, without any timer.

A single record runs at once, as the event loop's next callback. Under load the loop first reads what all ready
connections have sent, twice, and then one run serves them all.
"""

import asyncio
from collections.abc import Callable

from patient.encoding import as_bytes
from service.http.problems import busy
from service.model.predictor import Predictor
from service.observe.metrics import Metrics
from service.records.decoding import Values
from service.records.errors import NoProbability
from service.records.results import SCALE

QUEUE_FULL = "Too many requests are waiting."
Result = tuple[Predictor, float]  # the model that answered, and its rounded probability


class MicroBatcher:
    """A bounded queue of records in front of a model. Lives in one event loop."""

    def __init__(self, model: Callable[[], Predictor], limit: int, metrics: Metrics) -> None:
        self.model, self.limit, self.metrics = model, limit, metrics
        self.waiting: list[tuple[bytes, asyncio.Future[Result]]] = []

    def submit(self, values: Values) -> asyncio.Future[Result]:
        """Queue a record and return its result's future. Raises Problem 503 when `limit` records are waiting."""
        if self.is_full():
            raise busy(QUEUE_FULL)
        if not self.waiting:
            self.loop = asyncio.get_running_loop()  # once per run: it costs a system call
            self.loop.call_soon(self._gather)
        future: asyncio.Future[Result] = self.loop.create_future()
        self.waiting.append((as_bytes(values), future))
        return future

    def is_full(self) -> bool:
        """Whether the next record must be rejected; if so, count it as an overload."""
        if len(self.waiting) < self.limit:
            return False
        self.metrics.record_overload()
        return True

    def _gather(self) -> None:
        """Run a single record now; if several arrived in one iteration of the loop, wait for those of the next."""
        if len(self.waiting) > 1:
            self.metrics.set_gauge("records", len(self.waiting))
            self.loop.call_soon(self._run)
        else:
            self._run()

    def _run(self) -> None:
        waiting, self.waiting = self.waiting, []
        self.metrics.set_gauge("records", 0)
        rows = [row for row, _ in waiting]
        try:
            model = self.model()  # once: no run mixes two models
            probabilities = model.predict_bytes(rows)
        except Exception as error:  # passed on to every request that waits
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        self.metrics.record_run("single", len(waiting))
        self.metrics.record_scored(model, rows, probabilities)
        for (_, future), probability in zip(waiting, probabilities, strict=True):
            if future.done():  # its client has disconnected
                continue
            if 0 <= probability <= 1:  # NaN is not
                future.set_result((model, round(probability * SCALE) / SCALE))
            else:
                future.set_exception(NoProbability())
