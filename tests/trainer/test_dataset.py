"""The table is read whole, every row is checked, and a fault is named by file, line and column."""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from patient.record import EXAMPLE, FIELDS
from tests.conftest import CLEVELAND
from trainer.dataset import Dataset, DatasetError, TableSource, TrainTestTable, read, stratified_split

HEADER = ",".join([*FIELDS, "target"])
GOOD = ",".join([*(str(EXAMPLE[name]) for name in FIELDS), "0"])


def table(folder: Path, *lines: str) -> Path:
    """A CSV file of these lines."""
    path = folder / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_all_303_patients_of_whom_139_are_diseased(cleveland: Dataset) -> None:
    """The data set is UCI's, with UCI's target."""
    assert len(cleveland) == 303
    assert cleveland.target.sum() == 139


def test_missing_cells_are_where_uci_has_them(cleveland: Dataset) -> None:
    """ca in four records, thal in two."""
    found = [(int(row), FIELDS[column]) for row, column in np.argwhere(np.isnan(cleveland.rows))]
    assert found == [(87, "thal"), (166, "ca"), (192, "ca"), (266, "thal"), (287, "ca"), (302, "ca")]


def test_the_first_record_is_the_worked_example(cleveland: Dataset) -> None:
    """Values stand in the order of the record."""
    assert cleveland.rows[0].tolist() == pytest.approx([EXAMPLE[name] for name in FIELDS])


def test_the_file_is_the_one_that_its_script_makes() -> None:
    """The script knows the digest; and it maps words to codes and '?' to nothing."""
    script = CLEVELAND.with_name("make_cleveland.py")
    spec = importlib.util.spec_from_file_location("make_cleveland", script)
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert hashlib.sha256(CLEVELAND.read_bytes()).hexdigest() == make.SHA256
    words = "67|male|asymptomatic|160|286|0|ST-T abnormal|108|1|1.5|flat|?|reversable defect|1"
    line = words.replace("|", "\t")
    header, row = make.convert(f"h\nt\nf\n{line}\n").decode().splitlines()
    assert header == HEADER
    assert row == "67,1,4,160,286,0,1,108,1,1.5,2,,7,1"


def test_columns_may_stand_in_any_order_and_missing_may_be_a_question_mark(tmp_path: Path) -> None:
    """The header decides."""
    lines = [HEADER, GOOD.replace(",0,6,0", ",?,6,0"), GOOD[:-1] + "1"]
    reversed_lines = [",".join(reversed(line.split(","))) for line in lines]
    data = read(table(tmp_path, *reversed_lines))
    assert data.rows[1].tolist() == pytest.approx([EXAMPLE[name] for name in FIELDS])
    assert np.isnan(data.rows[0, FIELDS.index("ca")])
    assert data.target.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "The table is empty: it has no header"),
        ([HEADER.replace("chol,", "")], "lacks the column chol"),
        ([HEADER + ",bmi"], "has an unknown name for column 15"),
        ([HEADER + ",chol"], "repeats the column chol"),
        ([HEADER], "target must hold both 0 and 1"),
        ([HEADER, GOOD, GOOD], "target must hold both 0 and 1"),
        ([HEADER, GOOD, "1,2"], "table.csv:3: The row has 2 cells, the header 14"),
        ([HEADER, GOOD.replace("63,", "x,", 1)], "table.csv:2: age: Age must be a number from 18 to 120"),
        ([HEADER, GOOD.replace("233", "9999")], "table.csv:2: chol: Serum cholesterol must be"),
        ([HEADER, GOOD.replace("233", "inf")], "table.csv:2: chol: Serum cholesterol must be"),
        ([HEADER, GOOD[:-1] + "NA"], "table.csv:2: target: must be 0 or 1"),
        ([HEADER, GOOD.replace("63,", ",", 1)], "table.csv:2: age: Age must be"),
        ([HEADER, GOOD[:-1] + "2"], "table.csv:2: target: must be 0 or 1"),
    ],
)
def test_a_fault_is_named_without_the_value(tmp_path: Path, lines: list[str], words: str) -> None:
    """The message leads to the cell, and does not repeat it."""
    with pytest.raises(DatasetError) as caught:
        read(table(tmp_path, *lines))
    assert words in str(caught.value)
    assert "9999" not in str(caught.value)


def test_missing_and_binary_files_are_one_line_of_error(tmp_path: Path) -> None:
    """A missing file and a binary one are each one line of error."""
    with pytest.raises(DatasetError, match="No such file"):
        read(tmp_path / "nowhere.csv")
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    with pytest.raises(DatasetError, match="not UTF-8"):
        read(tmp_path / "binary")


def test_a_split_is_seeded_stratified_and_loses_nobody(cleveland: Dataset) -> None:
    """Same seed, same parts; the share of disease is the same in both; every row is in one."""
    train, test = stratified_split(cleveland.target, 0.2, np.random.default_rng(0))
    again = stratified_split(cleveland.target, 0.2, np.random.default_rng(0))
    other = stratified_split(cleveland.target, 0.2, np.random.default_rng(1))
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(303))
    assert np.array_equal(test, again[1])
    assert not np.array_equal(test, other[1])
    assert cleveland.target[test].mean() == pytest.approx(cleveland.target.mean(), abs=0.01)


def test_identical_rows_are_kept_counted_and_named(tmp_path: Path, cleveland: Dataset) -> None:
    """By line; rows that differ in the target, or in what is missing, are not identical. Cleveland has none."""
    assert cleveland.notes == ()
    healthy, missing = GOOD[:-1] + "1", GOOD.replace(",233,", ",?,")
    data = read(table(tmp_path, HEADER, GOOD, healthy, "", GOOD.replace("63", "63.0"), missing, missing, GOOD))
    assert len(data) == 6
    (note,) = data.notes
    assert note.startswith("Identical rows: 3 of 6 repeat an earlier one. They are kept, but")
    assert note.endswith("Lines: 5 repeats 2, 7 repeats 6, 8 repeats 2")
    many = read(table(tmp_path, HEADER, healthy, *[GOOD.replace("2.3", "-0")] * 50, GOOD.replace("2.3", "0"))).notes
    assert many[0].endswith("12 repeats 3, 13 repeats 3 and 40 more")


def test_identical_rows_of_a_folder_are_named_by_file(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for name in "ab":
        table(tmp_path, HEADER, GOOD[:-1] + "1", GOOD).rename(tmp_path / "parts" / f"{name}.csv")
    source = TrainTestTable(TableSource(tmp_path / "parts"), None, 0, small=0)
    assert source.notes[0].endswith("Lines: b.csv:2 repeats a.csv:2, b.csv:3 repeats a.csv:3")
