"""Run records that wait at the same moment through the model together, without any timer.

A single record runs at once. Under load the loop first reads what all ready connections have sent, twice, and then one
run serves them all. A run on the GPU has a thread of its own, and records gather until it ends.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

from patient.encoding import Floats, as_bytes, from_bytes
from service.http.problems import busy
from service.model.predictor import Predictor
from service.observe.metrics import Metrics
from service.records.decoding import Values
from service.records.errors import NoProbability
from service.records.results import SCALE

QUEUE_FULL = "Too many requests are waiting."
SINGLE_RUNS = 8  # after so many, the next record runs as soon as it has arrived
Result = tuple[Predictor, float]  # the model that answered, and its rounded probability
Future = asyncio.Future[Result]
W = TypeVar("W")
Rows = list[bytes]  # float32, each one record
Taken = tuple["Waiters[Any]", Rows, list[Any]]  # what a run takes from a queue
W_contra = TypeVar("W_contra", contravariant=True)


class Waiters(Protocol[W_contra]):
    """Who waits, and how they are told."""

    def succeed(self, model: Predictor, waiters: Sequence[W_contra], probabilities: Sequence[float]) -> None:
        """Tell them their probabilities, which are neither checked nor rounded yet."""

    def fail(self, waiters: Sequence[W_contra], error: BaseException) -> None: ...


class Queue(Generic[W]):
    """Records that wait for a run, and who waits for each."""

    def __init__(self, told: Waiters[W]) -> None:
        self.told = told
        self.rows: list[bytes] = []
        self.waiters: list[W] = []


class Futures:
    """Those of FastAPI's route."""

    def succeed(self, model: Predictor, waiters: Sequence[Future], probabilities: Sequence[float]) -> None:
        for future, probability in zip(waiters, probabilities, strict=True):
            if future.done():  # its client has disconnected
                continue
            if 0 <= probability <= 1:  # NaN is not
                future.set_result((model, round(probability * SCALE) / SCALE))
            else:
                future.set_exception(NoProbability())

    def fail(self, waiters: Sequence[Future], error: BaseException) -> None:
        for future in waiters:
            if not future.done():
                future.set_exception(error)


class MicroBatcher:
    """A bounded number of records in front of a model. Lives in one event loop."""

    def __init__(self, model: Callable[[], Predictor], limit: int, metrics: Metrics) -> None:
        self.model, self.limit, self.metrics = model, limit, metrics
        self.waiting = 0
        self.single_runs = 0  # consecutive runs of a single record
        self.is_gpu_busy = False
        self.gpu_thread = ThreadPoolExecutor(1, "gpu")
        self.queues: list[Queue[Any]] = []
        self.futures = self.queue(Futures())

    def queue(self, told: Waiters[W]) -> Queue[W]:
        """A queue for those who are told in another way. All queues share the runs, and the limit."""
        queue = Queue(told)
        self.queues.append(queue)
        return queue

    def submit(self, values: Values) -> asyncio.Future[Result]:
        """Queue a record and return its result's future. Raises Problem 503 when `limit` records are waiting."""
        if self.is_full():
            raise busy(QUEUE_FULL)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.add(self.futures, values, future)
        return future

    def add(self, queue: Queue[W], values: Values, waiter: W) -> None:
        """Queue a record, which `is_full` allowed."""
        queue.rows.append(as_bytes(values))
        queue.waiters.append(waiter)
        self.waiting += 1
        if self.waiting > 1 or self.is_gpu_busy:
            return
        self.loop = asyncio.get_running_loop()  # once per run: it costs a system call
        if self.single_runs < SINGLE_RUNS:
            self.loop.call_soon(self._gather)
        else:
            self.single_runs = 0
            self.loop.call_soon(self._end_iteration)
            self._run()

    def is_full(self) -> bool:
        """Whether the next record must be rejected; if so, count it as an overload."""
        if self.waiting < self.limit:
            return False
        self.metrics.record_overload()
        return True

    def _gather(self) -> None:
        """Run a single record now; if several arrived in one iteration of the loop, wait for those of the next."""
        if self.waiting > 1:
            self.single_runs = 0
            self.metrics.set_gauge("records", self.waiting)
            self.loop.call_soon(self._run)
        else:
            self.single_runs += 1
            self._run()

    def _end_iteration(self) -> None:
        """Run the next record at once too, unless another one has arrived in the same iteration."""
        if not self.waiting:
            self.single_runs = SINGLE_RUNS

    def _run(self) -> None:
        self.waiting = 0
        self.metrics.set_gauge("records", 0)
        taken: list[Taken] = []
        for queue in self.queues:
            if queue.rows:
                taken.append((queue.told, queue.rows, queue.waiters))
                queue.rows, queue.waiters = [], []
        rows = taken[0][1] if len(taken) == 1 else [*chain.from_iterable(rows for _, rows, _ in taken)]
        try:
            model = self.model()  # once: no run mixes two models
            if model.runs_on_gpu(len(rows)):
                self.is_gpu_busy = True
                run = self.loop.run_in_executor(self.gpu_thread, model, from_bytes(rows))
                run.add_done_callback(partial(self._end_gpu_run, model, rows, taken))
                return
            probabilities = model.predict_bytes(rows)
        except Exception as error:
            _fail(taken, error)
        else:
            self._succeed(model, rows, taken, probabilities)

    def _end_gpu_run(self, model: Predictor, rows: Rows, taken: list[Taken], run: asyncio.Future[Floats]) -> None:
        """Tell who waited, and run what has gathered meanwhile."""
        self.is_gpu_busy = False
        if self.waiting:
            self.loop.call_soon(self._run)
        if run.cancelled():
            return  # the service has ended
        if error := run.exception():
            _fail(taken, error)
        else:
            self._succeed(model, rows, taken, run.result().tolist())

    def _succeed(self, model: Predictor, rows: Rows, taken: list[Taken], probabilities: list[float]) -> None:
        self.metrics.record_run("single", len(rows))
        self.metrics.record_scored(model, rows, probabilities)
        for told, own, waiters in taken:
            told.succeed(model, waiters, probabilities[: len(own)])
            probabilities = probabilities[len(own) :]


def _fail(taken: list[Taken], error: BaseException) -> None:
    """Tell every request of a run that it failed."""
    for told, _, waiters in taken:
        told.fail(waiters, error)
