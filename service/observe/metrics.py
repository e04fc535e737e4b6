"""What the service has done so far, added up over all its processes: service/exposition.py has the words for it."""

import asyncio
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from patient.encoding import from_bytes
from patient.record import FIELDS
from service.model.predictor import Predictor
from service.observe.drift import MOST, NAMES, WIDTH, DriftHistogram, Found
from service.observe.shared_counters import Cells, SharedCounters

Way = Literal["single", "batch"]
Gauge = Literal["records", "batches", "explanations", "streams"]
Outcome = Literal["loaded", "refused"]

# A cell each: sums, and what is so now.
SERIES: dict[str, int] = {
    name: slot
    for slot, name in enumerate(
        ("runs/single", "rows/single", "runs/batch", "rows/batch", "overloads", "unready", "fallback", "dropped",
         "records", "batches", "explanations", "streams", "reloads/loaded", "reloads/refused")
    )
}  # fmt: skip

BOUNDS = (*(digit * 10.0**power for power in range(-4, 1) for digit in (1, 2, 5)), 10.0)  # seconds
SIZES = tuple(2**power for power in range(17))  # rows of a run
STATUSES = (200, 400, 401, 403, 404, 405, 406, 408, 413, 414, 415, 422, 429, 431, 499, 500, 503)
CUT, OTHER = len(STATUSES), len(STATUSES) + 1
STATUS = {status: place for place, status in enumerate(STATUSES)}
MAX_ROUTES = 48  # the last is for what has no route of its own
REFUSED = (*FIELDS, "other")

# Several cells each.
BLOCKS: dict[str, int] = {
    "refused": len(REFUSED),
    "missing": len(FIELDS),
    "sizes/single": len(SIZES) + 1,
    "sizes/batch": len(SIZES) + 1,
    "requests": MAX_ROUTES * (len(STATUSES) + 2),
    "seconds": MAX_ROUTES * (len(BOUNDS) + 2),  # by bucket, then their sum
    "spread": 1 + len(NAMES) * WIDTH,  # whose bins they are, then the bins
}
START = dict(zip(BLOCKS, accumulate(BLOCKS.values(), initial=len(SERIES)), strict=False))
SIZE = len(SERIES) + sum(BLOCKS.values())

AT_ONCE = 1024  # rows that are put into bins together
LATEST = 0.1  # seconds that they wait for it, and so what a kill can lose of them


class Metrics:
    """This process's counts, and the sum of all. Without a folder this process is the only one. For the event loop."""

    def __init__(self, folder: Path | None = None) -> None:
        self._page = SharedCounters(folder, SIZE)
        self._cells = self._page.cells
        self._model: Predictor | None = None
        self._rows: list[bytes] = []
        self._probabilities: list[float] = []
        self._timer: asyncio.TimerHandle | None = None
        self.drift: DriftHistogram | None = None  # of the model that serves
        for name in ("unready", *get_args(Gauge)):
            self._cells[SERIES[name]] = 0

    def record_run(self, way: Way, rows: int) -> None:
        """The model has run once, over so many rows."""
        runs, sizes = _RUNS[way]
        self._cells[runs] += 1
        self._cells[runs + 1] += rows
        self._cells[sizes + min((rows - 1).bit_length(), len(SIZES))] += 1

    def record_overload(self) -> None:
        """A request was sent away because too many waited."""
        self._cells[SERIES["overloads"]] += 1

    def record_reload(self, outcome: Outcome) -> None:
        """A new version of the model took over, or must not. In the thread that loads: the cells are nobody else's."""
        self._cells[SERIES[f"reloads/{outcome}"]] += 1

    def set_ready(self, yes: bool) -> None:
        """Whether this process can answer."""
        self._cells[SERIES["unready"]] = not yes

    def set_fallback(self, yes: bool) -> None:
        """Whether this process answers from the CPU although it was to use a GPU if it can."""
        self._cells[SERIES["fallback"]] = yes

    def set_gauge(self, name: Gauge, number: int) -> None:
        """How many single records and batches wait, and how many streams are under way."""
        self._cells[SERIES[name]] = number

    def set_log_dropped(self, lines: int) -> None:
        """How many lines of its log this process has dropped so far."""
        self._cells[SERIES["dropped"]] = lines

    def record_response(self, route: int, status: int, seconds: float) -> None:
        """A request has ended. route: below ROUTES; status: a place in STATUSES, CUT or OTHER."""
        cells = self._cells
        cells[_REQUESTS + route * _STATUSES + status] += 1
        start = _SECONDS + route * _BUCKETS
        cells[start + bisect_left(BOUNDS, seconds)] += 1
        cells[start + _BUCKETS - 1] += seconds

    def record_invalid_fields(self, fields: Mapping[str, int]) -> None:
        """So many records were refused for the sake of each field; what is none of ours counts as `other`."""
        for name, number in fields.items():
            self._cells[START["refused"] + (REFUSED.index(name) if name in FIELDS else len(FIELDS))] += number

    def set_model(self, model: Predictor | None) -> None:
        """From now on this model serves. Patients in bins are counted anew when they are another's bins."""
        self.flush()
        self._model, self.drift = model, DriftHistogram(model.metadata) if model else None
        if model and self.drift:
            self.set_fallback(model.fallback is not None)
            start, end = START["spread"], START["spread"] + BLOCKS["spread"]
            if self._cells[start] != self.drift.identity:
                self._cells[start] = 0  # nobody's, while it is being cleared
                self._page.all[start + 1 : end] = 0
                self._cells[start] = self.drift.identity

    def record_scored(self, model: Predictor, rows: Sequence[bytes], probabilities: Sequence[float]) -> None:
        """Patients that were scored, soon to be put into bins: float32 rows, one a probability or several at once.

        Rows of a model that serves no more are not counted: its bins are gone.
        """
        if model is not self._model:
            return
        self._rows += rows
        self._probabilities += probabilities
        if len(self._probabilities) >= AT_ONCE:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LATEST, self.flush)

    def flush(self) -> None:
        """Put what waits for it into bins."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._rows and self._model and self.drift:
            rows, probabilities = self._rows, self._probabilities
            self._rows, self._probabilities = [], []
            columns = np.ascontiguousarray(from_bytes(rows).T)
            self.add_drift(self._model, self.drift.count(columns, np.array(probabilities)))

    def add_drift(self, model: Predictor, found: Found) -> None:
        """So many patients of each bin were scored."""
        if model is self._model:
            start = START["spread"] + 1
            self._page.all[start : start + len(found)] += found
            lacking = found[MOST::WIDTH][: len(FIELDS)]
            self._page.all[START["missing"] : START["missing"] + len(FIELDS)] += lacking

    def total(self, series: str) -> float:
        """The sum over all processes, those that have died included."""
        return float(sum(sheet.cells[SERIES[series]] for sheet in self._page.sheets()))

    def worker_counts(self) -> tuple[int, int]:
        """How many processes live, and how many of these can answer."""
        living = [sheet.cells for sheet in self._page.sheets() if sheet.lives]
        return len(living), sum(not cells[SERIES["unready"]] for cells in living)

    def snapshot(self) -> "Snapshot":
        """All that has been counted, by all processes."""
        self.flush()
        return Snapshot(self._page, self.drift.identity if self.drift else 0)


_RUNS = {way: (SERIES[f"runs/{way}"], START[f"sizes/{way}"]) for way in ("single", "batch")}
_REQUESTS, _SECONDS = START["requests"], START["seconds"]
_STATUSES, _BUCKETS = len(STATUSES) + 2, len(BOUNDS) + 2


class Snapshot:
    """Sums over all processes, those that have died included; `living` over those that have not.

    spread: only of processes whose bins are `identity`'s: they may have different models for a moment
    """

    def __init__(self, page: SharedCounters, identity: int) -> None:
        self._all, self._living, self.processes = np.zeros(SIZE), np.zeros(SIZE), 0
        start, end = START["spread"], START["spread"] + BLOCKS["spread"]
        self.drift = np.zeros(end - start - 1)
        for cells, lives in page.sheets():
            self._all += cells
            self._living += cells * lives
            self.processes += lives
            if cells[start] == identity:
                self.drift += cells[start + 1 : end]

    def total(self, series: str) -> float:
        """Of all processes."""
        return float(self._all[SERIES[series]])

    def living(self, series: str) -> float:
        """Of those that live."""
        return float(self._living[SERIES[series]])

    def block(self, name: str, rows: int = 1) -> Cells:
        """float64[rows, ...] of all processes."""
        return self._all[START[name] : START[name] + BLOCKS[name]].reshape(rows, -1)
