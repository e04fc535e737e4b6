"""The data set in the codes of Kaggle's heart.csv, made by the inverse of the mapping."""

import csv
from typing import Any

from patient.codebook import OUR_CODES
from patient.record import FIELDS
from tests.conftest import CLEVELAND

KAGGLE_CODES = {name: {ours: theirs for theirs, ours in codes.items()} for name, codes in OUR_CODES.items()}
COLUMNS = (*FIELDS, "target")
SENTENCE = "The table looks like Kaggle's heart.csv, whose codes mean other findings here"


def ours() -> list[dict[str, Any]]:
    """The 303 rows and their targets as numbers; None: not taken."""
    with CLEVELAND.open(newline="") as file:
        return [{name: float(cell) if cell else None for name, cell in row.items()} for row in csv.DictReader(file)]


def kaggles(rows: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """The same, or other rows, in Kaggle's codes. Kaggle has no code for a missing cp, restecg or slope."""
    return [
        {name: KAGGLE_CODES[name][cell] if name in KAGGLE_CODES else cell for name, cell in row.items()}
        for row in (ours() if rows is None else rows)
    ]


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Rows as text, numbers as Kaggle writes them."""
    cells = [["" if cell is None else f"{cell:g}" for cell in row.values()] for row in rows]
    return "".join(f"{','.join(line)}\n" for line in [[*rows[0]], *cells])
