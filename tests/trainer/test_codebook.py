"""The trainer refuses a table in Kaggle's codes, and trains on the converted one as on the data set."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from patient.record import EXAMPLE
from service.cli.convert import convert
from tests.conftest import CLEVELAND
from tests.kaggle import COLUMNS, SENTENCE, as_csv, kaggles, ours
from trainer.dataset import Dataset, DatasetError, TableSource, read


def test_kaggles_table_is_refused_whole(tmp_path: Path) -> None:
    """Also where invalid rows may be left out, as CSV and Parquet and in a folder with others; no list is written."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.csv").write_bytes(CLEVELAND.read_bytes())
    files = [tmp_path / "data/b.csv", tmp_path / "data/b.parquet"]
    files[0].write_text(as_csv(kaggles()))
    pa.parquet.write_table(pa.Table.from_pylist(kaggles()), files[1])
    for path in (*files, tmp_path / "data"):
        for share in (0.0, 0.99):
            with pytest.raises(DatasetError, match=rf"/data/b\.(csv|parquet): {SENTENCE}: see cp, slope, ca and thal"):
                list(TableSource(path, share, tmp_path / "rejects.csv"))
    assert not (tmp_path / "rejects.csv").exists()


def test_the_converted_file_is_read_as_the_data_set(tmp_path: Path, cleveland: Dataset) -> None:
    """The same rows and targets, so the same training."""
    (tmp_path / "heart.csv").write_text(as_csv(kaggles()))
    convert([str(tmp_path / "heart.csv"), str(tmp_path / "ours.csv")], standalone_mode=False)
    found = read(tmp_path / "ours.csv")
    np.testing.assert_array_equal(found.rows, cleveland.rows)
    np.testing.assert_array_equal(found.target, cleveland.target)
    assert found.sha256 == cleveland.sha256


@pytest.mark.parametrize("cell", [{"thal": 2}, {"slope": 0}, {"ca": 4}])
def test_one_mistyped_cell_is_one_row(cell: dict[str, int], tmp_path: Path) -> None:
    """It is named, or left out."""
    path = tmp_path / "table.csv"
    path.write_text(as_csv([*ours(), {**EXAMPLE, **cell, "target": 1}]))
    assert path.read_text().startswith(",".join(COLUMNS))
    with pytest.raises(DatasetError, match=rf"table\.csv:305: {next(iter(cell))}: "):
        list(TableSource(path))
    source = TableSource(path, 0.01)
    list(source)
    assert (source.rows, source.bad) == (303, 1)
