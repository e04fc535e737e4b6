"""Score the rows that worker processes send. The model stays in this process."""

import asyncio

import numpy as np
from numpy.typing import NDArray

from patient.encoding import Floats
from service.model.predictor import Predictor
from service.observe.drift import DriftHistogram
from service.observe.metrics import Metrics
from service.records.results import invalid_probabilities, rounded


class WorkerScoring:
    """The scoring of one table's rows, in a thread. rows: scored so far"""

    def __init__(self, model: Predictor, metrics: Metrics) -> None:
        self.model, self.metrics = model, metrics
        self.drift = DriftHistogram(model.metadata)
        self.loop = asyncio.get_running_loop()
        self.rows = 0

    def __call__(self, columns: Floats) -> NDArray[np.float64]:
        """Return rounded probabilities float64[n] of float32[13,n], and count them. Raises DeviceLost."""
        probabilities = rounded(self.model.predict_columns(columns))
        counted, scored = columns, probabilities
        if (invalid := invalid_probabilities(probabilities)).any():
            counted, scored = columns[:, ~invalid], probabilities[~invalid]
        if rows := len(scored):
            self.rows += rows
            found = self.drift.count(counted, scored)
            # Only the event loop writes metrics.
            self.loop.call_soon_threadsafe(self.metrics.record_run, "batch", rows)
            self.loop.call_soon_threadsafe(self.metrics.add_drift, self.model, found)
        return probabilities
