"""A table of any size is split once and for all, and trains alike from memory and from the file."""

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import CLEVELAND
from trainer import dataset, readers
from trainer.cli.generate import generate
from trainer.dataset import Dataset, DatasetError, TableSource, TrainTestTable, sample
from trainer.fit import fit, fit_chunks
from trainer.recipe import Recipe


def test_a_small_table_holds_nothing_out_unless_told(cleveland: Dataset) -> None:
    """Folds judge it, so all rows may train."""
    table = TrainTestTable(TableSource(CLEVELAND), None, 0, small=1000)
    assert (table.train_rows, table.test_rows) == (303, 0)
    assert np.array_equal(sample(table.train())[0], cleveland.rows, equal_nan=True)
    assert len(sample(table.test())[1]) == 0


def test_a_large_table_holds_out_a_fifth_of_either_class() -> None:
    """Every row is on one side, the same in every pass."""
    table = TrainTestTable(TableSource(CLEVELAND), None, 0, small=100)
    assert (table.train_rows, table.test_rows, len(table)) == (242, 61, 303)
    assert sample(table.test())[1].mean() == pytest.approx(139 / 303, abs=0.01)
    assert np.array_equal(sample(table.test())[0], sample(table.test())[0], equal_nan=True)


def test_a_table_that_does_not_fit_into_memory_trains_the_same(
    tmp_path: Path, cleveland: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the file, pass by pass, in several chunks, the weights are those from memory."""
    monkeypatch.setattr(readers, "BLOCK_ROWS", 4096)
    file = tmp_path / "many.parquet"
    generate(file, 10_000, 0, cleveland)
    kept = TrainTestTable(TableSource(file), 0.2, 0, small=0)
    monkeypatch.setattr(dataset, "MAX_ROWS_IN_MEMORY", 5000)
    streamed = TrainTestTable(TableSource(file), 0.2, 0, small=0)
    assert kept.kept is not None
    assert streamed.kept is None
    recipe = Recipe(epochs=2, batch_size=256)
    expected, found = (fit_chunks(table.train, recipe) for table in (kept, streamed))
    assert found.losses == expected.losses
    assert np.array_equal(found.predict(cleveland.rows), expected.predict(cleveland.rows))
    assert found.losses[-1] < found.losses[0]


def test_the_statistics_of_chunks_are_those_of_the_whole(cleveland: Dataset) -> None:
    """However a table is cut, its standardisation is the same."""
    parts = np.array_split(np.arange(303), 7)
    cut = fit_chunks(lambda: [(cleveland.rows[p], cleveland.target[p]) for p in parts], Recipe(epochs=1))
    whole = fit(cleveland.rows, cleveland.target, Recipe(epochs=1))
    assert cut.encode.mean == pytest.approx(whole.encode.mean, rel=1e-6)
    assert cut.encode.scale == pytest.approx(whole.encode.scale, rel=1e-6)


def test_a_table_of_one_class_is_refused(tmp_path: Path) -> None:
    """There is nothing to tell apart."""
    lines = CLEVELAND.read_text().splitlines()
    (tmp_path / "healthy.csv").write_text("\n".join([lines[0], *(line for line in lines if line.endswith(",0"))]))
    with pytest.raises(DatasetError, match="must hold both 0 and 1"):
        TrainTestTable(TableSource(tmp_path / "healthy.csv"), None, 0, small=0)


def test_a_sample_stops_where_it_is_large_enough(cleveland: Dataset) -> None:
    """Scores of millions of rows need not all of them."""
    chunks = ((cleveland.rows, cleveland.target) for _ in range(10))
    assert len(sample(chunks, 1000)[1]) == 4 * 303
