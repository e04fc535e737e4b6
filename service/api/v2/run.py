"""Patients through the model, part by part, so that whoever runs them can let others do something in between."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from patient.encoding import Floats
from patient.record import FIELDS, measurements
from patient.table import invalid
from service.api.v2.requests import refused
from service.api.v2.tensors import Rows
from service.model.predictor import Predictor
from service.records.errors import NoProbability
from service.records.results import invalid_probabilities

MAX_LISTED_ERRORS = 10  # faults that an error lists: it is one string


class Run:
    """One request's rows, float[N,13] not judged yet, and their probabilities, once all `parts` are done."""

    def __init__(self, rows: Rows, model: Predictor) -> None:
        self.rows, self.model = rows, model
        self.probabilities: Floats = np.empty(len(rows), np.float32)
        self.faults: list[str] = []
        self.fields: Counter[str] = Counter()  # faults of each

    def parts(self, size: int) -> Iterator[tuple[Floats, Floats]]:
        """Judge and run up to `size` rows a step; yields rows and probabilities of those that the model saw.

        After the first bad value the rest is only judged, and then Problem 400 raised.
        """
        for start in range(0, len(self.rows), size):
            part = self.rows[start : start + size]
            self.judge(part, start)
            rows = np.ascontiguousarray(part[:0] if self.fields else part, np.float32)
            told = self.probabilities[start : start + len(rows)]
            if len(rows):
                told[:] = self.model(rows)
                if (none := invalid_probabilities(told)).any():
                    raise NoProbability((start + np.flatnonzero(none)).tolist())
            yield rows, told
        self.check()

    def judge(self, part: Rows, start: int = 0) -> None:
        """Take down what PatientRecord refuses in these rows, the first of which is number `start`."""
        refusals = np.empty(part.shape, np.bool_, order="F")
        columns = np.asfortranarray(part)
        for i, field in enumerate(measurements()):
            refusals[:, i] = invalid(field, columns[:, i])
        if not refusals.any():
            return
        cells = np.argwhere(refusals)
        self.fields.update(FIELDS[i] for i in cells[:, 1].tolist())
        room = MAX_LISTED_ERRORS - len(self.faults)
        for row, i in cells[:room].tolist():
            self.faults.append(f"row {start + row}, {FIELDS[i]}: {measurements()[i].expected}")

    def check(self) -> None:
        """Raise Problem 400 if anything was refused."""
        if total := self.fields.total():
            more = f"; and {total - len(self.faults)} more" if total > len(self.faults) else ""
            told = f"{total} refused (rows count from 0, NaN is null): {'; '.join(self.faults)}{more}."
            raise refused(told, fields=self.fields)
