"""A table of any size and kind is read in chunks; what is wrong in it is found, named, counted and never repeated."""

import csv
import gzip
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from patient.record import EXAMPLE, FIELDS, measurements
from tests.conftest import CLEVELAND
from trainer.cli.generate import generate
from trainer.dataset import Dataset, DatasetError, TableSource, digest, read
from trainer.readers import BLOCK_ROWS, COLUMNS

HEADER = ",".join(COLUMNS)
GOOD = ",".join([*(str(EXAMPLE[name]) for name in FIELDS), "1"])
BAD = GOOD.replace("233", "9999")


def write(path: Path, *lines: str) -> Path:
    """A CSV file of the header and these lines."""
    path.write_text("\n".join([HEADER, *lines]) + "\n", newline="")
    return path


def parquet(path: Path, rows: int = 2, **columns: Any) -> Path:
    """A Parquet file of the worked example, with these columns instead."""
    table = {name: pa.array([float(value)] * rows) for name, value in (EXAMPLE | {"target": 1}).items()}
    pa.parquet.write_table(pa.table(table | columns), path)
    return path


def rejected(path: Path, rejects: Path) -> list[list[str]]:
    """Line, column and reason of each cell that is refused."""
    for _ in TableSource(path, 0.99, rejects):
        pass
    with rejects.open(newline="") as file:
        header, *found = csv.reader(file)
    assert header == ["file", "line", "column", "reason"]
    return [line for _, *line in found]


def message(path: Path, share: float = 0) -> str:
    """What reading the table raises."""
    with pytest.raises(DatasetError) as caught:
        list(TableSource(path, share))
    assert "9999" not in str(caught.value)
    return str(caught.value)


def test_csv_parquet_and_a_folder_of_both_hold_the_same_patients(tmp_path: Path, cleveland: Dataset) -> None:
    """CSV and Parquet give equal arrays."""
    columns = {name: pa.array(cleveland.rows[:, i]) for i, name in enumerate(FIELDS)}
    folder = tmp_path / "folder"
    folder.mkdir()
    file = parquet(folder / "b.parquet", **columns, target=pa.array(cleveland.target.astype(np.int8)))
    (folder / "a.csv").write_bytes(CLEVELAND.read_bytes())
    (folder / "_SUCCESS").touch()
    whole, both = read(file), read(folder)
    assert np.array_equal(whole.rows, cleveland.rows, equal_nan=True)
    assert np.array_equal(whole.target, cleveland.target)
    assert np.array_equal(both.rows, np.concatenate([cleveland.rows] * 2), equal_nan=True)
    assert both.name == "folder"


def test_a_folders_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    """A renamed, changed or added part is another table."""
    write(tmp_path / "a.csv", GOOD)
    found = {digest(tmp_path)}
    write(tmp_path / "a.csv", GOOD, GOOD)
    found.add(digest(tmp_path))
    (tmp_path / "a.csv").rename(tmp_path / "b.csv")
    found.add(digest(tmp_path))
    write(tmp_path / "c.csv")
    assert len(found | {digest(tmp_path)}) == 4


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_chunks_are_small_and_a_source_can_be_read_again(tmp_path: Path, cleveland: Dataset, name: str) -> None:
    """What a pass holds does not grow with the table, and no row is lost between two chunks."""
    generate(tmp_path / name, 150_000, 0, cleveland)
    source = TableSource(tmp_path / name)
    for _ in range(2):
        chunks = list(source)
        assert max(len(rows) for rows, _ in chunks) <= BLOCK_ROWS
        assert {rows.dtype for rows, _ in chunks} | {target.dtype for _, target in chunks} == {np.dtype(np.float32)}
        assert (sum(len(rows) for rows, _ in chunks), source.rows, source.bad) == (150_000, 150_000, 0)


def test_the_reject_file_names_every_cell_by_line_and_column(tmp_path: Path) -> None:
    """A person can mend the table without looking for anything, and nothing of a patient leaves it."""
    two = BAD.replace("63,", "x,", 1)
    path = write(tmp_path / "t.csv", GOOD, two, "1,2", "", GOOD[:-1] + "?", GOOD, GOOD + "\r" + GOOD, GOOD + ",")
    expected = {field.name: field.expected for field in measurements()}
    assert rejected(path, tmp_path / "rejects.csv") == [
        ["3", "age", expected["age"]],
        ["3", "chol", expected["chol"]],
        ["4", "", "The row has 2 cells, the header 14"],
        ["6", "target", "must be 0 or 1"],
        ["10", "", "The row has 15 cells, the header 14"],
    ]
    source = TableSource(path, 0.8)
    assert sum(len(rows) for rows, _ in source) == source.rows == 4
    assert source.bad == 4


@pytest.mark.parametrize("text", [BAD, "1,2", "\n" + BAD, ",,,,\n" + BAD])
def test_line_numbers_hold_far_into_a_file_and_after_comments(tmp_path: Path, text: str) -> None:
    """The line is the one that an editor shows."""
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["# one", "# two", HEADER, *[GOOD] * 60_000, text, *[GOOD] * 60_000]))
    assert [line for line, *_ in rejected(path, tmp_path / "rejects.csv")] == [str(60004 + text.count("\n"))]


CELLS = ["", "?", " ", " 233 ", '"233"', '"2"33', '""', '"?"', "nan", "NaN", "-nan", "inf", "Infinity", "1e999", "+233"]
ODD = [
    "2_33",
    "٢٣٣",
    "233.",
    ".5e3",
    "0x99",
    "2,33",
    '"2,33"',
    "NA",
    "null",
    "true",
    "\t233",
    "'233'",
    "\ufeff233",
]


@settings(deadline=None)
@given(st.one_of(st.sampled_from(CELLS + ODD), st.floats().map(str), st.floats(50, 1000).map(repr), st.text()))
@example("2,,")
def test_a_rows_verdict_does_not_depend_on_its_neighbours(tmp_path_factory: pytest.TempPathFactory, cell: str) -> None:
    """One broken line makes pyarrow give up on its neighbours, and they are read another way: to the same end."""
    if cell not in CELLS + ODD:
        cell = re.sub(r'[\r\n"]', "", cell).encode(errors="replace").decode()
    line, folder = GOOD.replace("233", cell), tmp_path_factory.mktemp("cells")
    alone, among = write(folder / "alone.csv", line, GOOD), write(folder / "among.csv", line, GOOD, "broken")
    found, expected = (np.concatenate([rows for rows, _ in TableSource(path, 0.99)]) for path in (alone, among))
    assert np.array_equal(found, expected, equal_nan=True)
    faults = [rejected(path, folder / "rejects.csv") for path in (alone, among)]
    assert faults[1] == [*faults[0], ["4", "", "The row has 1 cells, the header 14"]]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.rstrip(b"\n"),
        lambda text: b"\n".join(b'"' + line.replace(b",", b'","') + b'"' for line in text.splitlines()),
        lambda text: b"# a comment\n" + text,
        lambda text: text.replace(b"\n", b"\r"),
        lambda text: b"\n" + text + b"\n\n,,,,,\n",
        lambda text: b"\n".join(b"%d,%b" % (i, line) for i, line in enumerate(text.split())).replace(b"0,age", b",age"),
        lambda text: text.replace(b"\n", b",,\n"),
        lambda text: b"sep=;\r\n" + text.replace(b",", b";").replace(b".", b",").replace(b"\n", b"\r\n"),
        lambda text: text.replace(b",", b"\t"),
        lambda text: text.upper(),
    ],
    ids=[
        *("BOM", "CRLF", "no last line end", "quotes", "comment", "CR", "blank lines", "index", "trailing commas"),
        *("Excel, European", "tabs", "capitals"),
    ],
)
def test_dialects_of_csv_hold_the_same_patients(tmp_path: Path, cleveland: Dataset, change: Any) -> None:
    """Line ends, separators, quotes, a byte order mark, comments and compression do not matter."""
    content = change(CLEVELAND.read_bytes())
    (tmp_path / "t.csv").write_bytes(content)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(content[:3000]) + gzip.compress(content[3000:]))
    (tmp_path / "t.csv.zst").write_bytes(pa.compress(content, "zstd", asbytes=True))
    for name in ("t.csv", "t.csv.gz", "t.csv.zst"):
        assert np.array_equal(read(tmp_path / name).rows, cleveland.rows, equal_nan=True)


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_compressed_table_that_is_cut_off_is_one_line_of_error(tmp_path: Path, suffix: str) -> None:
    """Rows before the cut are not taken for the whole; the share of invalid rows is known at the end only."""
    content = "\n".join([HEADER, BAD, *[GOOD] * 1000]).encode()
    path = tmp_path / f"t.csv.{suffix}"
    packed = gzip.compress(content) if suffix == "gz" else pa.compress(content, "zstd", asbytes=True)
    path.write_bytes(packed)
    assert sum(len(rows) for rows, _ in TableSource(path, 0.001)) == 1000
    assert "1 of 1001 rows failed" in message(path, 0.0001)
    for cut in (packed[:-1], packed[: len(packed) // 2], packed[:10]):
        path.write_bytes(cut)
        assert "damaged, or not what its name says" in message(path, 0.5)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_index_is_left_out_and_noted(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        path.write_text(f",{HEADER}\n17,{GOOD}\n18,{GOOD}\n")
        place = 1
    else:
        parquet(path, __index_level_0__=pa.array(["a", "b"]))
        place = 15
    source = TableSource(path)
    assert sum(len(rows) for rows, _ in source) == 2
    assert source.notes == [f"{path}: Column {place} without a name: left out"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([3, None], pa.int8()),
        pa.array([3, None], pa.uint64()),
        pa.array(np.array([3, np.nan], np.float16)),
        pa.array([3.0, float("nan")], pa.float32()),
        pa.array([Decimal(3), None], pa.decimal128(5, 2)),
    ],
    ids=lambda column: str(column.type),
)
def test_parquet_numbers_of_any_width_are_numbers(tmp_path: Path, column: Any) -> None:
    """Programs choose the width by what they see; null and NaN are both missing."""
    ((rows, _),) = TableSource(parquet(tmp_path / "t.parquet", thal=column))
    assert rows[:, -1].tolist() == pytest.approx([3, np.nan], nan_ok=True)


def test_a_parquet_column_of_nulls_is_a_measurement_never_taken(tmp_path: Path) -> None:
    """What pandas writes for a column of None has no width at all."""
    ((rows, _),) = TableSource(parquet(tmp_path / "t.parquet", ca=pa.nulls(2)))
    assert np.isnan(rows[:, FIELDS.index("ca")]).all()


@pytest.mark.parametrize("column", [["233", "233"], [True, False], [[1], [2]]], ids=["string", "bool", "list"])
def test_a_parquet_column_of_other_things_is_refused_whole(tmp_path: Path, column: Any) -> None:
    """Text that looks like a number was once something else, and a boolean is no code."""
    assert "the column chol holds" in message(parquet(tmp_path / "t.parquet", chol=pa.array(column)))


def test_a_bad_parquet_cell_is_named_by_its_row(tmp_path: Path) -> None:
    """Parquet has no lines; whole numbers beyond a float's precision are merely refused."""
    path = parquet(tmp_path / "t.parquet", chol=pa.array([233, 2**53 + 1]))
    assert [line[:2] for line in rejected(path, tmp_path / "rejects.csv")] == [["2", "chol"]]
    assert "t.parquet:2: chol: Serum cholesterol must be" in message(path)
    target = pa.array([1.0, None])
    assert "t.parquet:2: target: must be 0 or 1" in message(parquet(tmp_path / "t.parquet", target=target))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The table is empty"),
        (GOOD.encode(), "The table has no header"),
        (b"# only a comment\n", "The table is empty"),
        (
            gzip.compress(HEADER.encode()),
            "compressed by gzip: say so in Content-Encoding, or by the file name's end .gz",
        ),
        (HEADER.encode("utf-16"), "UTF-16 text: save it as UTF-8"),
        (HEADER.replace(",", "|").encode(), "separated by vertical bars"),
        (f"{HEADER}\n{GOOD},\xe9".encode("cp1252"), "probably Windows-1252"),
        (HEADER.encode() + b"\n" + b"1" * 3_000_000, "A row is longer than 1048576 bytes"),
        (HEADER.replace("age", "chol").encode(), "lacks the column age"),
    ],
    ids=["empty", "no header", "comment", "gzip", "UTF-16", "bars", "cp1252", "endless line", "doubled"],
)
def test_what_is_no_table_is_one_line_of_error(tmp_path: Path, content: bytes, words: str) -> None:
    """Before the first row, and whatever the bytes."""
    (tmp_path / "t.csv").write_bytes(content)
    assert words in message(tmp_path / "t.csv", 0.99)


def test_a_damaged_parquet_file_is_one_line_of_error(tmp_path: Path) -> None:
    """Cut short, or with a page overwritten, it raises what every bad table raises."""
    content = parquet(tmp_path / "t.parquet", 1000, chol=pa.array(np.linspace(100, 200, 1000))).read_bytes()
    for damaged in (b"", content[:-20], content[:20], b"PAR1" + bytes(3000) + content[3004:]):
        (tmp_path / "t.parquet").write_bytes(damaged)
        assert "damaged, or not what its name says" in message(tmp_path / "t.parquet")
    assert "No such file" in message(tmp_path / "nowhere.parquet")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("README.md", "README.md: not a .csv, .csv.gz,"),
        (".hidden.csv", "no .csv, .csv.gz, .csv.zst or .parquet file in"),
    ],
)
def test_a_folder_holds_tables_and_nothing_else(tmp_path: Path, name: str, words: str) -> None:
    """A part that is passed over, such as part.csv.bz2, would be missed by nobody."""
    (tmp_path / name).write_text(HEADER)
    assert words in message(tmp_path)
    write(tmp_path / "z.csv").write_text("age\n")
    if name == "README.md":
        (tmp_path / name).rename(tmp_path / "a.csv")
    assert "z.csv: The header names 1 of the 13 fields; these are missing: sex" in message(tmp_path)


def test_a_pass_ends_as_soon_as_the_share_is_certain_to_be_passed(tmp_path: Path) -> None:
    """Nobody waits for the end of a table that cannot be trained on; the first bad row leads to the cause."""
    path = write(tmp_path / "t.csv", GOOD, *[BAD] * 100_000)
    source = TableSource(path, 0.1, tmp_path / "rejects.csv")
    with pytest.raises(
        DatasetError, match=r"rows failed validation, the share allowed is 0\.1; the first is .*t\.csv:3: chol"
    ):
        list(source)
    assert source.rows + source.bad < 50_000
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_share_that_is_stated_is_allowed_and_no_more(tmp_path: Path, suffix: str) -> None:
    """Two bad rows of ten are a share of 0.2, wherever they stand."""
    for bad in ((0, 1), (4, 5), (8, 9)):
        cells = [9999 if i in bad else 233 for i in range(10)]
        lines = [GOOD.replace("233", str(cell)) for cell in cells]
        path = tmp_path / f"t.{suffix}"
        path = write(path, *lines) if suffix == "csv" else parquet(path, 10, chol=pa.array(cells))
        assert sum(len(rows) for rows, _ in TableSource(path, 0.2)) == 8
        assert "2 of 10 rows failed validation, the share allowed is 0.19" in message(path, 0.19)
    path = write(tmp_path / "hundred.csv", *[BAD] * 29, *[GOOD] * 71)
    assert sum(len(rows) for rows, _ in TableSource(path, 0.29)) == 71  # in floats, 0.29 * 100 is less than 29


def test_short_bad_lines_do_not_make_a_share_seem_larger(tmp_path: Path) -> None:
    """How many rows follow is estimated from bytes."""
    path = write(tmp_path / "t.csv", *["x"] * 60_000, *[GOOD] * 90_000)
    source = TableSource(path, 0.4)
    assert sum(len(rows) for rows, _ in source) == 90_000
    assert source.bad == 60_000


def test_a_reject_file_is_never_half_written(tmp_path: Path) -> None:
    """A pass that is left early leaves the list of the one before; a complete one writes it, error or not."""
    rejects = tmp_path / "rejects.csv"
    rejects.write_text("before")
    path = write(tmp_path / "t.csv", BAD, *[GOOD] * 100_000)
    chunks = iter(TableSource(path, 0.5, rejects))
    next(chunks)
    assert len(list(tmp_path.glob(".writing-*"))) == 1
    del chunks
    assert rejects.read_text() == "before"
    assert not list(tmp_path.glob(".writing-*"))
    with pytest.raises(DatasetError):
        list(TableSource(write(path, GOOD, BAD), 0.1, rejects))
    assert "t.csv,3,chol" in rejects.read_text()


def test_the_table_itself_is_no_place_for_its_bad_rows(tmp_path: Path) -> None:
    """A slip of the fingers must not cost the data."""
    path = write(tmp_path / "t.csv", GOOD)
    with pytest.raises(DatasetError, match="this is the table itself"):
        list(TableSource(path, 0.5, tmp_path / "." / "t.csv"))
    assert GOOD in path.read_text()
