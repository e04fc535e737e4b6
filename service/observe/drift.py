"""Drift histograms: scored records per bin of the model's training data, by field and by probability."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from patient.artefact import Bins, Metadata
from patient.encoding import Floats
from patient.record import FIELDS, measurements

PROBABILITY = "probability"
FEATURES = (*FIELDS, PROBABILITY)
MAX_BINS = 32  # of a feature; one with more bins in the model file is not counted
CELLS = MAX_BINS + 1  # per feature: its bins, then the records without a value
NO_BINS = Bins(upper=[], share=[], missing=0, ill=[])  # of a feature for which the model file has no bins
TENTHS = Bins(upper=[tenth / 10 for tenth in range(1, 10)], share=[], missing=0, ill=[])

BinCounts = NDArray[np.int64]  # [len(FEATURES) * CELLS]


@dataclass(frozen=True)
class DriftHistogram:
    """The bins of one model. A bin includes its upper bound, as in the model file."""

    metadata: Metadata

    @cached_property
    def bins(self) -> list[Bins]:
        """In the order of FEATURES."""
        given = [self.metadata.bins.get(name, TENTHS if name == PROBABILITY else NO_BINS) for name in FEATURES]
        return [bins if len(bins.upper) < MAX_BINS else NO_BINS for bins in given]

    @property
    def known(self) -> list[str]:
        return [name for name, bins in zip(FEATURES, self.bins, strict=True) if bins.upper]

    @cached_property
    def identity(self) -> int:
        """A number that identifies the bins of this version; below 2**48, so that a float64 holds it, and never 0."""
        content = json.dumps([self.metadata.version, [bins.upper for bins in self.bins]])
        return int.from_bytes(hashlib.sha256(content.encode()).digest()[:6]) or 1

    def count(self, columns: Floats, probabilities: NDArray[np.floating]) -> BinCounts:
        """Count n records by bin.

        columns: float32[13,n], NaN = not taken. Bounds are compared as float32 too: otherwise float32's 1.1 exceeds a
        bound of 1.1. One comparison per bound is many times faster than a search per value.
        """
        counts = np.zeros((len(FEATURES), CELLS), np.int64)
        mask = np.empty(len(probabilities), np.bool_)
        for cells, bins, column in zip(counts, self.bins, (*columns, probabilities), strict=True):
            present = int(np.count_nonzero(np.equal(column, column, out=mask)))  # only NaN differs from itself
            below = 0
            for i, upper in enumerate(bins.upper):
                up_to = int(np.count_nonzero(np.less_equal(column, upper, out=mask)))
                cells[i] = up_to - below
                below = up_to
            cells[len(bins.upper)] = present - below
            cells[MAX_BINS] = len(column) - present
        return counts.ravel()

    def labels(self, name: str) -> list[str]:
        """Return the label of each bin of a feature (a code, or the upper bound), then `missing`."""
        place = FEATURES.index(name)
        upper = self.bins[place].upper
        codes = measurements()[place].codes if place < len(FIELDS) and upper else ()
        last = str(max(codes)) if codes else "+Inf"
        return [*(f"{bound:g}" if codes else repr(bound) for bound in upper), last, "missing"]

    def cells(self, counts: NDArray[np.number], name: str) -> list[float]:
        """Return the counts of a feature in the order of its labels."""
        cells = counts.reshape(len(FEATURES), CELLS)[FEATURES.index(name)].tolist()
        return [*cells[: len(self.labels(name)) - 1], cells[MAX_BINS]]

    def expected(self, name: str) -> list[float]:
        """Return the share of all training rows in each bin, in the same order; [] if the model file has no shares."""
        bins = self.bins[FEATURES.index(name)]
        return [*(share * (1 - bins.missing) for share in bins.share), bins.missing] if bins.share else []
