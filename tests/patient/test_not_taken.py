"""A CSV cell that means "not taken" means it to the service, to `score` and to the trainer alike."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patient.encoding import Floats
from patient.record import EXAMPLE, FIELDS, measurements
from patient.table import NOT_TAKEN, is_not_taken
from service.cli.score.command import score as command
from service.tables import csv
from service.tables.source import Limits
from tests.conftest import ROOT
from trainer.dataset import DatasetError, TableSource

NULLABLE = [field.name for field in measurements() if field.nullable]
AS_WRITTEN = ["", "?", "NA", "N/A", "#N/A", "<NA>", "nan", "NaN", "-nan", "NULL", "null", "None", r"\N", " ", "\t NA "]
MISTYPED = ["N/As", "1O", "nane", "nul", "??", "-", "inf", "Infinity", "\xa0", "N A"]


def table(cells: list[tuple[str, str]], *more: str) -> str:
    """CSV with one row for each (field, cell): the worked example, with this cell, diseased in every second row."""
    rows = [[*((EXAMPLE | {field: cell}).values()), i % 2, cell] for i, (field, cell) in enumerate(cells)]
    lines = [",".join(map(str, row)) for row in rows]
    return "\n".join([",".join([*FIELDS, "target", "cell"]), *lines, *more]) + "\n"


def by_service(text: str) -> tuple[Floats, list[str | None]]:
    """float32[N,13] as the service reads the fields, and the column `cell`, which passes through."""
    read = csv.read(io.BytesIO(text.encode()), ("target", "cell"), Limits())
    (chunk,) = read.chunks
    return np.column_stack(chunk.numbers).astype(np.float32), chunk.kept["cell"].to_pylist()


def by_trainer(text: str, folder: Path) -> Floats:
    """float32[N,13] as the trainer reads the fields."""
    path = folder / "table.csv"
    path.write_text("\n".join(line.rpartition(",")[0] or line for line in text.splitlines()) + "\n")
    return np.concatenate([rows for rows, _ in TableSource(path, 0.9)])


@settings(deadline=None)
@given(st.data())
def test_every_spelling_in_every_field_is_one_record_to_all(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """In any case, between blanks, quoted or not, and whether or not the table has a broken cell."""
    spellings = st.sampled_from(sorted(NOT_TAKEN)).flatmap(
        lambda cell: st.sampled_from([cell, cell.upper(), cell.title(), f" {cell}\t", f'"{cell}"'])
    )
    cells = data.draw(st.lists(st.tuples(st.sampled_from(NULLABLE), spellings), min_size=1, max_size=20))
    expected = np.array([[np.nan if name == field else EXAMPLE[name] for name in FIELDS] for field, _ in cells])
    mistyped = table([("chol", "1O")]).splitlines()[1]
    for more in ([], [mistyped]):
        text = table(cells, *more)
        for rows in (by_service(text)[0][: len(cells)], by_trainer(text, tmp_path_factory.mktemp("t"))):
            np.testing.assert_array_equal(rows, expected.astype(np.float32))


def test_score_names_the_field_that_was_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the spelling; and text in a column that passes through stays as it was written."""
    monkeypatch.chdir(ROOT)
    cells = [(field, cell) for field in NULLABLE for cell in AS_WRITTEN]
    (tmp_path / "in.csv").write_text(table(cells))
    with pytest.raises(SystemExit, match=r"^0$"):
        command([str(tmp_path / "in.csv"), str(tmp_path / "out.csv"), "--keep", "target,cell"])
    lines = [line.split(",") for line in (tmp_path / "out.csv").read_text().splitlines()[1:]]
    assert [(missing, cell) for _, cell, _, _, missing in lines] == cells


@pytest.mark.parametrize("broken", [False, True])
def test_kept_text_is_not_read_as_null(broken: bool) -> None:
    """A patient called Null keeps the name; only an empty cell is null."""
    cells = [("chol", cell) for cell in AS_WRITTEN]
    _, kept = by_service(table(cells, *([table([("chol", "1O")]).splitlines()[1]] if broken else [])))
    assert kept[: len(cells)] == [cell or None for cell in AS_WRITTEN]


@pytest.mark.parametrize("cell", MISTYPED)
def test_a_mistyped_cell_is_an_error_to_all(tmp_path: Path, cell: str) -> None:
    """A spelling that nobody writes on purpose is not guessed at."""
    assert not is_not_taken(cell)
    assert np.isinf(by_service(table([("chol", cell)]))[0][0, FIELDS.index("chol")])
    with pytest.raises(DatasetError, match="chol: Serum cholesterol must be"):
        by_trainer(table([("chol", cell)]), tmp_path)


@pytest.mark.parametrize("field", ["age", "sex"])
def test_age_and_sex_must_be_there(tmp_path: Path, field: str) -> None:
    """However their absence is spelled."""
    for cell in AS_WRITTEN:
        assert np.isnan(by_service(table([(field, cell)]))[0][0, FIELDS.index(field)])
        with pytest.raises(DatasetError, match=f"{field}: .* must be"):
            by_trainer(table([(field, cell)]), tmp_path)
