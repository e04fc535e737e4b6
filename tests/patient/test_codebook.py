"""Tables in Kaggle's codes are recognised, tables in ours never; and the conversion gives every row back."""

import csv
import io
import random
import re
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patient.codebook import (
    FEW_ROWS,
    JUDGED_ROWS,
    ONLY_KAGGLE,
    ONLY_OURS,
    Evidence,
    NotConvertible,
    convert,
    find_mismatch,
)
from patient.encoding import as_array
from patient.record import EXAMPLE, FIELDS, measurements
from tests.conftest import CLEVELAND, ROOT
from tests.kaggle import COLUMNS, SENTENCE, as_csv, kaggles, ours

KAGGLE = kaggles()
OURS = ours()


def judge(rows: list[dict[str, Any]], size: int = 2**15) -> str | None:
    """The verdict on a table that comes in pieces of so many rows."""
    values = as_array([row.get(name) for name in FIELDS] for row in rows)
    evidence = Evidence()
    pieces = (values[start : start + size] for start in range(0, len(values), size))
    reason = next((reason for piece in pieces if (reason := evidence.add(piece.T))), None)
    if size >= len(rows):
        assert find_mismatch(values) == reason
    return reason


def converted(text: str) -> str:
    """A converted file."""
    return "".join(f"{','.join(row)}\n" for row in convert(csv.reader(io.StringIO(text, newline=""))))


def test_all_303_rows_and_targets_come_back() -> None:
    """Cell for cell, the missing ones too."""
    text = as_csv(KAGGLE)
    assert text.startswith(",".join(COLUMNS) + "\n63,1,3,145,233,1,0,150,0,2.3,0,0,1,1\n")  # as Kaggle's file does
    assert converted(text) == CLEVELAND.read_text()


def test_the_documents_code_for_data_frames_does_the_same() -> None:
    """Row for row."""
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/codebook.md").read_text(), re.DOTALL)
    frame = pd.read_csv(io.StringIO(as_csv(KAGGLE)))
    exec(code, {"frame": frame})
    pd.testing.assert_frame_equal(frame, pd.read_csv(CLEVELAND), check_dtype=False)


def test_other_columns_and_spellings_of_names_and_codes_stay_readable() -> None:
    """Their places and cells; codes may be floats, and missing cells any that mean it."""
    text = "mrn, CP ,restecg,slope,ca,thal\nx,0.0,1,2,?,NA\n\n,3,0,1,4.0,0\n"
    assert converted(text) == "mrn, CP ,restecg,slope,ca,thal\nx,4,0,1,,\n,1,2,2,,\n"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("4,1,2,0,2,1", "cp must be 0, 1, 2 or 3 in Kaggle's codes, or empty"),
        ("0,1,3,0,2,1", "slope must be 0, 1 or 2"),
        ("0,1,2,0,6,1", "thal must be 0, 1, 2 or 3"),
        ("0,1,2,0,2,2", "target must be 0 or 1"),
        ("0,1,2,0,secret,1", "thal must be"),
        ("0,1,2,inf,2,1", "ca must be"),
        ("0,1,2,0.5,2,1", "ca must be"),
        ("0,1,2,0,2", "the row has 5 cells, the header 6"),
    ],
)
def test_what_is_no_code_of_kaggles_stops_the_conversion(line: str, reason: str) -> None:
    """Also a file in our codes, so none is converted twice. No cell is repeated."""
    with pytest.raises(NotConvertible, match=re.escape(reason)) as caught:
        converted(f"cp,restecg,slope,ca,thal,target\n{line}\n")
    assert "secret" not in str(caught.value)


def test_a_header_without_the_columns_stops_the_conversion() -> None:
    """It names those that are absent, and none that is there."""
    with pytest.raises(NotConvertible, match=r"it lacks restecg, slope, ca, thal$"):
        converted("SURNAME,cp\n")
    with pytest.raises(NotConvertible, match="it lacks cp"):
        converted("")


def test_kaggles_table_is_recognised_whole_in_pieces_and_in_part() -> None:
    """Eight rows of it are enough; two of them two times in three."""
    for size in (1, 7, 303):
        reason = judge(KAGGLE, size)
        assert reason
        assert reason.startswith(f"{SENTENCE}: see ")
        assert "`heart convert IN.csv OUT.csv`" in reason
        assert "docs/codebook.md" in reason
    assert "see cp, slope, ca and thal in 267 of its first 303 rows." in str(judge(KAGGLE))
    rng = random.Random(0)
    assert all(judge(rng.sample(KAGGLE, 10)) for _ in range(300))
    assert sum(bool(judge(rng.sample(KAGGLE, 2))) for _ in range(300)) > 150


def test_the_data_set_is_never_refused() -> None:
    """Neither as a whole nor any part of it."""
    assert judge(OURS) is None
    rng = random.Random(0)
    for rows in (1, 2, 3, 5, 10, 50):
        assert not any(judge(rng.sample(OURS, rows), 1) for _ in range(100))


@given(st.data())
@settings(deadline=None)
def test_valid_rows_are_never_refused_unless_cp_is_0_in_most(data: st.DataObject) -> None:
    """In any number and order, with any cells missing, and with chest pain 0 in a few rows or beside our own codes."""
    valid = {field.name: st.sampled_from([*field.codes, None]) for field in measurements() if field.codes}
    rows = data.draw(st.lists(st.fixed_dictionaries(valid), max_size=40))
    zeros = sum(row["cp"] == 0 for row in rows)
    own = sum(any(row[name] in codes for name, codes in ONLY_OURS.items()) for row in rows)
    if zeros > FEW_ROWS and zeros > own:  # such a table may be Kaggle's
        rows = [row | {"cp": row["cp"] or None} for row in rows]
    assert judge(rows) is None


@pytest.mark.parametrize(("name", "code"), [(name, code) for name, codes in ONLY_KAGGLE.items() for code in codes])
def test_a_mistyped_cell_is_one_cell(name: str, code: int) -> None:
    """In a small table, and in 5 % of a large one."""
    wrong = EXAMPLE | {"slope": 1, "thal": 3} | {name: code}
    for row in (EXAMPLE, EXAMPLE | {"slope": 1, "thal": 3}, dict.fromkeys(FIELDS)):
        for others in (0, 1, 5):
            assert judge([wrong, *[row] * others]) is None
            assert judge([*[row] * others, *[wrong] * FEW_ROWS]) is None
        assert judge([*[row] * 950, *[wrong] * 50]) is None
        assert bool(judge([*[row] * 940, *[wrong] * 60])) == (name != "cp" or row is not EXAMPLE)


def test_two_mistyped_cells_in_a_table_of_ours_are_two_cells() -> None:
    """In one row or in two, where the other rows have our codes."""
    for wrong in ([{"slope": 0, "thal": 2}], [{"slope": 0}, {"ca": 4}], [{"thal": 1}, {"cp": 0}]):
        assert judge([*OURS[:10], *(EXAMPLE | cells for cells in wrong)]) is None


@pytest.mark.parametrize("name", [name for name in ONLY_KAGGLE if name != "cp"])
def test_many_codes_that_only_kaggle_has_refuse_the_table(name: str) -> None:
    """In one column, although the others have our codes: who recoded one column may have recoded all its cells."""
    assert judge([EXAMPLE | {name: ONLY_KAGGLE[name][0]}] * (FEW_ROWS + 1))


def test_chest_pain_0_refuses_a_table_only_without_our_codes() -> None:
    """It is valid here: a table with it and with codes that Kaggle lacks is ours."""
    plain = EXAMPLE | {"cp": 0, "slope": 1, "thal": 3}
    assert judge([plain] * FEW_ROWS) is None
    assert judge([plain] * (FEW_ROWS + 1))
    assert judge([EXAMPLE | {"cp": 0}] * 10) is None
    assert judge([row | {"cp": 0} if i % 3 == 0 else row for i, row in enumerate(OURS)]) is None


def test_two_columns_refuse_a_small_table() -> None:
    """Of two rows, or of one."""
    plain = EXAMPLE | {"slope": 1, "thal": 3}
    assert judge([plain | {"cp": 0, "thal": 2}])
    assert judge([plain | {"ca": 4}, plain | {"slope": 0}])
    assert judge([plain | {"cp": 0}, plain]) is None


def test_only_the_first_rows_count() -> None:
    """The others are not looked at, whatever the pieces."""
    plain = [EXAMPLE] * JUDGED_ROWS
    for size in (1, 999, 2000):
        assert judge([*plain, *KAGGLE], size) is None


def test_what_is_no_number_does_not_count() -> None:
    """Missing, infinite and huge cells, integers and floats of any width; without a warning."""
    for kind in (np.int8, np.uint64, np.float32, np.float64):
        assert Evidence().add(np.zeros((13, 0), kind)) is None
        assert Evidence().add(np.full((13, 9), 3, kind)) is None
        assert Evidence().add(np.zeros((13, 9), kind))
    assert Evidence().add(np.full((13, 9), np.nan)) is None
    assert Evidence().add(np.full((13, 9), np.inf)) is None
