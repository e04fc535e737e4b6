"""Metrics of all worker processes: each is declared once here, counted in shared memory, and exposed by prometheus.py.

A counter or histogram sums over all processes, including those that have ended; a gauge sums over living ones.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np

from patient.encoding import from_bytes
from patient.record import FIELDS
from service.model.predictor import Predictor
from service.observe.drift import CELLS, FEATURES, MAX_BINS, BinCounts, DriftHistogram
from service.observe.shared_counters import Cells, SharedCounters

Way = Literal["single", "batch"]
Gauge = Literal["records", "batches", "explanations", "streams", "ready", "fallback"]
Outcome = Literal["loaded", "refused"]

MAX_ROUTES = 48  # including the one that stands for unknown paths
NO_ROUTE = "other"  # the route of unknown paths, and the first of all routes
STATUSES = (200, 206, 304, 400, 401, 403, 404, 405, 406, 408, 409, 413, 414, 415, 422, 431, 499, 500, 503, 505, 507)
STATUS = {status: place for place, status in enumerate(STATUSES)}
CUT, OTHER = len(STATUSES), len(STATUSES) + 1

MAX_UNBINNED = 4096  # scored rows that wait to be binned together
BIN_SECONDS = 0.1  # how long they wait at most, and so what a kill can lose of them

METRICS: list["Metric"] = []


@dataclass(eq=False)
class Metric:
    """The declaration of a metric. Its cells in shared memory follow those of the metric declared before it.

    labels: each label's values; a label without values gets them when the metric is exposed, and has no cells
    buckets: a histogram's upper bounds; a series then has a cell per bucket, one for +Inf, and one for the sum
    is_sparse: omit series that are 0, except those with the label value `always`
    derived: `(source, function)` for a metric that is computed from another's cells and has none of its own
    """

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help_text: str
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    buckets: Sequence[float] = ()
    is_sparse: bool = False
    always: str = ""
    derived: tuple["Metric", Callable[[Cells], Cells]] | None = None

    def __post_init__(self) -> None:
        self.width = len(self.buckets) + 2 if self.buckets else 1  # cells per series
        self.start: int = METRICS[-1].end if METRICS else 0
        self.end: int = self.start + (0 if self.derived else prod(map(len, self.labels.values())) * self.width)
        METRICS.append(self)

    def cell(self, *values: str) -> int:
        """Return the first cell of the series with these label values."""
        return self.start + [*product(*self.labels.values())].index(values) * self.width


ROUTE = {"route": (NO_ROUTE, *map(str, range(1, MAX_ROUTES)))}  # numbered in shared memory, named when exposed
WAY = {"way": ("single", "batch")}
BIN: dict[str, tuple[str, ...]] = {"version": (), "feature": (), "bin": ()}

REQUESTS = Metric(
    "counter",
    "heart_requests_total",
    "HTTP requests by route and status. 499: the client closed the connection before the response began; "
    "cut: the response began but was not completed.",
    ROUTE | {"status": (*map(str, STATUSES), "cut", "other")},
    is_sparse=True,
    always="500",  # so that the first server error is seen as an increase
)
REQUEST_SECONDS = Metric(
    "histogram",
    "heart_request_seconds",
    "Seconds from the end of the request head to the end of the response.",
    ROUTE,
    buckets=(*(digit * 10.0**power for power in range(-4, 1) for digit in (1, 2, 5)), 10.0),
    is_sparse=True,
)
RUN_ROWS = Metric("histogram", "heart_run_rows", "Records per model run.", WAY, buckets=[2**n for n in range(17)])
RUNS = Metric(
    "counter", "heart_runs_total", "Model runs.", WAY, derived=(RUN_ROWS, lambda run: run[:, :-1].sum(axis=1))
)
ROWS = Metric("counter", "heart_rows_total", "Records scored.", WAY, derived=(RUN_ROWS, lambda run: run[:, -1]))
REFUSED = Metric(
    "counter",
    "heart_refused_total",
    "Invalid records by the field at fault. other: an unknown field, or not a record.",
    {"field": (*FIELDS, "other")},
)
MISSING = Metric("counter", "heart_missing_total", "Scored records without a value, by field.", {"field": FIELDS})
OVERLOADS = Metric(
    "counter",
    "heart_overloads_total",
    "Requests rejected with 503 because a queue was full or too many requests were in progress.",
)
RELOADS = Metric("counter", "heart_reloads_total", "New model versions by outcome.", {"outcome": ("loaded", "refused")})
LOG_DROPPED = Metric("counter", "heart_log_dropped_total", "Log lines dropped: stderr is not read, or not writable.")
WAITING = Metric(
    "gauge",
    "heart_waiting",
    "Single records, batches and explanations that wait for the model.",
    {"queue": ("records", "batches", "explanations")},
)
STREAMS = Metric("gauge", "heart_streams", "Tables that are being scored.")
WORKERS = Metric("gauge", "heart_workers", "Worker processes that are alive.")
WORKERS_READY = Metric("gauge", "heart_workers_ready", "Worker processes that can serve requests.")
FALLBACK = Metric("gauge", "heart_provider_fallback", "Worker processes on the CPU because the GPU cannot be used.")
MODEL_INFO = Metric("gauge", "heart_model_info", "The current model.", {"version": (), "provider": (), "sha256": ()})
FEATURE = Metric(
    "counter",
    "heart_feature_total",
    "Scored records by model version, feature and bin of the training data. probability: the model's result.",
    BIN,
)
FEATURE_EXPECTED = Metric("gauge", "heart_feature_expected_share", "Share of the training rows in each bin.", BIN)

# Cells of heart_feature_total, which change with the model: the identity of its bins, then the bins.
_DRIFT = METRICS[-1].end
_DRIFT_END = _DRIFT + 1 + len(FEATURES) * CELLS

# Positions of cells that every request uses, as plain numbers: looking them up costs more.
_REQUESTS, _STATUSES = REQUESTS.start, len(REQUESTS.labels["status"])
_SECONDS, _SECONDS_WIDTH, _SECONDS_BUCKETS = REQUEST_SECONDS.start, REQUEST_SECONDS.width, REQUEST_SECONDS.buckets
_RUN_ROWS = {way: RUN_ROWS.cell(way) for way in WAY["way"]}
_LARGEST_RUN, _RUN_SUM = len(RUN_ROWS.buckets), RUN_ROWS.width - 1
_GAUGES = {queue: WAITING.cell(queue) for queue in WAITING.labels["queue"]}
_GAUGES |= {"streams": STREAMS.start, "ready": WORKERS_READY.start, "fallback": FALLBACK.start}


class Metrics:
    """The metrics of this process, and the sums over all. Without a folder there are no other processes.

    Only the event loop may call the methods, except where they say otherwise: adding to a cell is not atomic.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._counters = SharedCounters(folder, _DRIFT_END)
        self._cells = self._counters.cells
        self._model: Predictor | None = None
        self._rows: list[bytes] = []
        self._probabilities: list[float] = []
        self._timer: asyncio.TimerHandle | None = None
        self.drift: DriftHistogram | None = None  # of the model that serves
        for metric in METRICS:
            if metric.kind == "gauge":  # of a dead process with the same id
                self._counters.array[metric.start : metric.end] = 0
        self._cells[WORKERS_READY.start] = self._cells[WORKERS.start] = 1

    def record_run(self, way: Way, rows: int) -> None:
        start, cells = _RUN_ROWS[way], self._cells
        cells[start + min((rows - 1).bit_length(), _LARGEST_RUN)] += 1
        cells[start + _RUN_SUM] += rows

    def record_overload(self) -> None:
        self._cells[OVERLOADS.start] += 1

    def record_reload(self, outcome: Outcome) -> None:
        """Count a new model version. Only the thread that loads models may call it."""
        self._cells[RELOADS.cell(outcome)] += 1

    def record_log_dropped(self, lines: int) -> None:
        """Count lines of the log that were dropped. Only the log writer may call it, which holds a lock."""
        self._cells[LOG_DROPPED.start] += lines

    def set_gauge(self, name: Gauge, number: int) -> None:
        self._cells[_GAUGES[name]] = number

    def record_responses(self, route: int, status: int, seconds: Sequence[float]) -> None:
        """Count requests that have ended. route: below MAX_ROUTES; status: a place in STATUSES, CUT or OTHER."""
        cells, start = self._cells, _SECONDS + route * _SECONDS_WIDTH
        cells[_REQUESTS + route * _STATUSES + status] += len(seconds)
        for each in seconds:
            cells[start + bisect_left(_SECONDS_BUCKETS, each)] += 1
        cells[start + _SECONDS_WIDTH - 1] += sum(seconds)

    def record_invalid_fields(self, fields: Mapping[str, int]) -> None:
        """Count invalid records by field; unknown fields count as `other`."""
        for name, number in fields.items():
            self._cells[REFUSED.cell(name if name in FIELDS else "other")] += number

    def set_model(self, model: Predictor | None) -> None:
        """Set the model that serves. Reset the drift histograms when the model's bins change."""
        self.flush()
        self._model, self.drift = model, DriftHistogram(model.metadata) if model else None
        if model and self.drift:
            self.set_gauge("fallback", model.fallback is not None)
            if self._cells[_DRIFT] != self.drift.identity:
                self._cells[_DRIFT] = 0  # no model's, while the bins are being cleared
                self._counters.array[_DRIFT + 1 : _DRIFT_END] = 0
                self._cells[_DRIFT] = self.drift.identity

    def record_scored(self, model: Predictor, rows: Sequence[bytes], probabilities: Sequence[float]) -> None:
        """Count scored records in the drift histograms, BIN_SECONDS late at most.

        rows: float32, each one record or several; probabilities: one a record. Records that another model scored are
        not counted: they belong to other bins.
        """
        if model is not self._model:
            return
        self._rows += rows
        self._probabilities += probabilities
        if len(self._probabilities) >= MAX_UNBINNED:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BIN_SECONDS, self.flush)

    def flush(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._rows and self._model and self.drift:
            rows, probabilities = self._rows, self._probabilities
            self._rows, self._probabilities = [], []
            columns = np.ascontiguousarray(from_bytes(rows).T)
            self.add_drift(self._model, self.drift.count(columns, np.array(probabilities)))

    def add_drift(self, model: Predictor, counts: BinCounts) -> None:
        """Add records that a model scored to the drift histograms, unless another model serves by now."""
        if model is self._model:
            array = self._counters.array
            array[_DRIFT + 1 : _DRIFT_END] += counts
            array[MISSING.start : MISSING.end] += counts[MAX_BINS::CELLS][: len(FIELDS)]

    def snapshot(self) -> "Snapshot":
        self.flush()
        return Snapshot(self._counters, self.drift.identity if self.drift else 0)


class Snapshot:
    """The metrics at one moment, summed over processes.

    drift: counts of the processes that use the bins with this identity; during a reload others may still differ
    """

    def __init__(self, counters: SharedCounters, identity: int) -> None:
        self._all, self._living = np.zeros(_DRIFT_END), np.zeros(_DRIFT_END)
        self.drift = np.zeros(_DRIFT_END - _DRIFT - 1)
        for cells, is_alive in counters.read_all():
            self._all += cells
            if is_alive:
                self._living += cells
            if cells[_DRIFT] == identity:
                self.drift += cells[_DRIFT + 1 :]

    def cells(self, metric: Metric) -> Cells:
        """Return float64[series, cells per series]."""
        if metric.derived:
            source, function = metric.derived
            return function(self.cells(source)).reshape(-1, 1)
        sums = self._living if metric.kind == "gauge" else self._all
        return sums[metric.start : metric.end].reshape(-1, metric.width)

    def total(self, metric: Metric, *values: str) -> float:
        return float(self.cells(metric)[[*product(*metric.labels.values())].index(values), 0])

    def series(self, metric: Metric, routes: Sequence[str]) -> Iterator[tuple[tuple[str, ...], list[float]]]:
        """Yield the label values and the cells of each series that is to be exposed.

        routes: the names of the routes that are counted, without NO_ROUTE
        """
        known = [(NO_ROUTE, *routes) if label == "route" else values for label, values in metric.labels.items()]
        for values, cells in zip(product(*known), self.cells(metric).tolist(), strict=False):
            if not metric.is_sparse or any(cells) or metric.always in values:
                yield values, cells
