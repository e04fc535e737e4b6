"""Generated tables are of any size, look like the data, and say that they are no patients."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from patient.encoding import layout
from patient.record import FIELDS
from tests.conftest import CLEVELAND, ROOT
from trainer.__main__ import main
from trainer.cli.generate import generate
from trainer.dataset import Dataset, DatasetError, read


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory, cleveland: Dataset) -> dict[str, Path]:
    """20,000 patients in either format."""
    folder = tmp_path_factory.mktemp("generated")
    found = {suffix: folder / f"table.{suffix}" for suffix in ("csv", "parquet")}
    for path in found.values():
        generate(path, 20_000, 0, cleveland)
    return found


def test_both_formats_hold_the_same_valid_patients(tables: dict[str, Path]) -> None:
    """Every row passes the check that real rows pass."""
    first, second = (read(path) for path in tables.values())
    assert len(first) == 20_000
    assert np.array_equal(first.rows, second.rows, equal_nan=True)
    assert np.array_equal(first.target, second.target)


def test_the_file_says_that_it_is_synthetic(tables: dict[str, Path]) -> None:
    """A copy that has lost its name must not be taken for a study."""
    words = "Synthetic, not patients: 20000 rows drawn from cleveland.csv with replacement and jittered, seed 0"
    assert tables["csv"].read_text().splitlines()[0] == f"# {words}"
    assert pyarrow.parquet.read_schema(tables["parquet"]).metadata[b"synthetic"].decode() == words


def test_generated_patients_look_like_the_real_ones(tables: dict[str, Path], cleveland: Dataset) -> None:
    """Same range, same means, whole numbers still whole, codes and gaps untouched; and yet hardly two are alike."""
    rows, real = read(tables["csv"]).rows, cleveland.rows
    assert np.array_equal(np.nanmin(rows, axis=0), np.nanmin(real, axis=0))
    assert np.array_equal(np.nanmax(rows, axis=0), np.nanmax(real, axis=0))
    assert np.nanmean(rows, axis=0) == pytest.approx(np.nanmean(real, axis=0), rel=0.05)
    assert np.isnan(rows).mean(axis=0) == pytest.approx(np.isnan(real).mean(axis=0), abs=0.005)
    whole = [name != "oldpeak" for name in FIELDS]
    assert not np.nan_to_num(rows[:, whole] % 1).any()
    codes = [i for i in range(len(FIELDS)) if i not in layout().numeric]
    known = {row.tobytes() for row in real[:, codes]}
    assert {row.tobytes() for row in rows[:, codes]} <= known
    assert len({row.tobytes() for row in rows}) > 19_000


def test_equal_arguments_give_equal_files(tables: dict[str, Path], tmp_path: Path, cleveland: Dataset) -> None:
    """A measurement can be repeated on the same table; another seed gives another."""
    for seed, same in ((0, True), (1, False)):
        generate(tmp_path / "again.csv", 20_000, seed, cleveland)
        assert ((tmp_path / "again.csv").read_bytes() == tables["csv"].read_bytes()) is same


def test_the_command_writes_a_table_that_can_be_read(tmp_path: Path) -> None:
    """`python -m trainer generate`."""
    main(["generate", str(tmp_path / "t.parquet"), "--rows", "500", "--data", str(CLEVELAND)], standalone_mode=False)
    assert len(read(tmp_path / "t.parquet")) == 500


def test_another_kind_of_file_is_refused(tmp_path: Path, cleveland: Dataset) -> None:
    """And nothing is left behind."""
    with pytest.raises(DatasetError, match=r"its name must end in \.csv or \.parquet"):
        generate(tmp_path / "table.xlsx", 10, 0, cleveland)
    assert not list(tmp_path.iterdir())


def test_a_process_killed_while_it_writes_leaves_the_old_table(tmp_path: Path) -> None:
    """A table that is there is whole."""
    out = tmp_path / "t.csv"
    out.write_text("before")
    code = f"""
from pathlib import Path
from trainer.dataset import read
from trainer.cli.generate import generate
generate(Path({str(out)!r}), 10**9, 0, read(Path({str(CLEVELAND)!r})))
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        deadline = time.monotonic() + 60
        while not (found := [f for f in tmp_path.glob(".writing-*") if f.stat().st_size]) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert found
    assert out.read_text() == "before"
