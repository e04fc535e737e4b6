"""Split a table into training and held-out rows, in memory if it fits, else reading the files in every pass."""

from collections.abc import Iterator

import numpy as np

from trainer.dataset import Chunk, concatenate, stratified_split
from trainer.readers import TARGET, DatasetError
from trainer.table_source import TableSource

MAX_ROWS_IN_MEMORY = 1_000_000  # 60 MB; a longer table is read again for every pass
MAX_SAMPLE_ROWS = 500_000  # rows that metrics are computed on


class TrainTestTable:
    """A source, split into training and held-out rows: seeded, stratified within each chunk.

    train_rows, test_rows and positives are counted in a first pass, which also validates every row.
    """

    def __init__(self, source: TableSource, test_share: float | None, seed: int, small: int) -> None:
        """`test_share` None: 0.2, or 0 if the table has at most `small` rows. Raises DatasetError."""
        self.source, self.seed = source, seed
        kept: list[Chunk] | None = []
        count = self.positives = 0
        for rows, target in source:
            count += len(rows)
            self.positives += int(target.sum())
            kept = [*kept, (rows, target)] if kept is not None and count <= MAX_ROWS_IN_MEMORY else None
        if not 0 < self.positives < count:
            raise DatasetError(f"{source.path}: {TARGET} must hold both 0 and 1")
        self.kept = kept
        self.test_share = (0.0 if count <= small else 0.2) if test_share is None else test_share
        self.train_rows = sum(len(target) for _, target in self.train())
        self.test_rows = count - self.train_rows

    def __len__(self) -> int:
        return self.train_rows + self.test_rows

    def train(self) -> Iterator[Chunk]:
        """Yield the training rows in chunks."""
        return self._part(0)

    def test(self) -> Iterator[Chunk]:
        """Yield the held-out rows in chunks."""
        return self._part(1)

    def _part(self, which: int) -> Iterator[Chunk]:
        for i, (rows, target) in enumerate(self.source if self.kept is None else self.kept):
            indices = stratified_split(target, self.test_share, np.random.default_rng([self.seed, i]))[which]
            if len(indices):
                yield rows[indices], target[indices]


def sample(chunks: Iterator[Chunk], max_rows: int = MAX_SAMPLE_ROWS) -> Chunk:
    """Concatenate the first chunks, up to about `max_rows` rows."""
    return concatenate(chunks, max_rows)
