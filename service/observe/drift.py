"""How patients are spread over the bins of a model's training rows: by measurement, and by probability.

A bin's upper end belongs to it, as in the model file. Two cells more a measurement: what lies above the last end, and
what was not taken.
"""

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
NAMES = (*FIELDS, PROBABILITY)
MOST = 32  # bins of a measurement; a model file with more is not watched in it
WIDTH = MOST + 1  # cells of a measurement: its bins, then how many lack it
UNKNOWN = Bins(upper=[], share=[], missing=0, ill=[])  # of a model file that does not say: one bin
TENTHS = Bins(upper=[tenth / 10 for tenth in range(1, 10)], share=[], missing=0, ill=[])

Found = NDArray[np.int64]  # [len(NAMES) * WIDTH]


@dataclass(frozen=True)
class DriftHistogram:
    """The bins of one model."""

    metadata: Metadata

    @cached_property
    def bins(self) -> list[Bins]:
        """In the order of NAMES."""
        given = [self.metadata.bins.get(name, TENTHS if name == PROBABILITY else UNKNOWN) for name in NAMES]
        return [bins if len(bins.upper) < MOST else UNKNOWN for bins in given]

    @property
    def known(self) -> list[str]:
        """The measurements that have bins."""
        return [name for name, bins in zip(NAMES, self.bins, strict=True) if bins.upper]

    @cached_property
    def identity(self) -> int:
        """A number that tells these bins of this version from all others; below 2**48, never 0."""
        said = json.dumps([self.metadata.version, [bins.upper for bins in self.bins]])
        return int.from_bytes(hashlib.sha256(said.encode()).digest()[:6]) or 1

    def count(self, columns: Floats, probabilities: NDArray[np.floating]) -> Found:
        """How many of n patients lie in each cell.

        columns: float32[13,n], NaN = not taken. An end is compared as a float32 too, so that float32's 1.1 is not more
        than 1.1. A comparison for each end is many times faster than a search for each value.
        """
        found = np.zeros((len(NAMES), WIDTH), np.int64)
        mask = np.empty(len(probabilities), np.bool_)
        for cells, bins, column in zip(found, self.bins, (*columns, probabilities), strict=True):
            there = int(np.count_nonzero(np.equal(column, column, out=mask)))  # only NaN is not itself
            below = 0
            for i, upper in enumerate(bins.upper):
                up_to = int(np.count_nonzero(np.less_equal(column, upper, out=mask)))
                cells[i] = up_to - below
                below = up_to
            cells[len(bins.upper)] = there - below
            cells[MOST] = len(column) - there
        return found.ravel()

    def labels(self, name: str) -> list[str]:
        """Each cell of a measurement in words: a code, or a bin's upper end; then `missing`."""
        place = NAMES.index(name)
        upper = self.bins[place].upper
        codes = measurements()[place].codes if place < len(FIELDS) and upper else ()
        last = str(max(codes)) if codes else "+Inf"
        return [*(f"{end:g}" if codes else repr(end) for end in upper), last, "missing"]

    def cells(self, found: NDArray[np.number], name: str) -> list[float]:
        """What was found of a measurement, in the order of its labels."""
        cells = found.reshape(len(NAMES), WIDTH)[NAMES.index(name)].tolist()
        return [*cells[: len(self.labels(name)) - 1], cells[MOST]]

    def expected(self, name: str) -> list[float]:
        """Which share of all training rows lay there, in the same order; nothing where the model file does not say."""
        bins = self.bins[NAMES.index(name)]
        return [*(share * (1 - bins.missing) for share in bins.share), bins.missing] if bins.share else []
