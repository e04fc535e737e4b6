"""The contract of a model file: tensor names, fields, metadata, and the folder layout of its versions.

Versions are models/heart_disease/<version>/model.onnx, numbered from 1: the layout of Triton and TF Serving.
"""

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from patient.record import measurements

INPUT = "patient"  # float32[N,13], NaN = not taken
OUTPUT = "probability"  # float32[N,1]
FILE = "model.onnx"
PIN = "serve"  # a file next to the versions with the number of the serving one; without it the highest serves
CARD = "MODEL_CARD.md"  # next to the model file
ENCODING = 1  # version: increase it when the encoding of the same fields changes


class ArtefactError(Exception):
    """A model file is invalid or missing. The message is one line; a mismatch names both sides."""


def schema() -> list[list[Any]]:
    """Return the ordered fields with their codes: [["age", []], ["sex", [0, 1]], ...]."""
    return [[field.name, list(field.codes)] for field in measurements()]


def fingerprint(fields: list[list[Any]] | None = None, encoding: int = ENCODING) -> str:
    """Hash the ordered fields, their codes and the encoding's version with SHA-256; by default those of this code."""
    return hashlib.sha256(json.dumps([schema() if fields is None else fields, encoding]).encode()).hexdigest()


Number = Annotated[float, Field(allow_inf_nan=False)]
Row = list[Number | None]  # a patient's 13 values in the order of the fields, None = missing


class Checks(BaseModel):
    """A self-test: made-up patients and the network's probabilities at export, which a loaded file must reproduce."""

    rows: list[Row] = []
    probabilities: list[float] = []


class Bins(BaseModel):
    """A histogram of the training rows over the bins of a measurement, or of the probability."""

    upper: list[Number]  # the bins' upper ends, inclusive, but the last: a value is in bin searchsorted(upper, value)
    share: list[Number]  # of the rows that have a value, by bin
    missing: Number  # share of rows without a value
    ill: list[Number | None]  # share of disease, by bin; None in an empty one

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Shares and illness are given for each bin, or for none."""
        if {len(self.share), len(self.ill)} - {0, len(self.upper) + 1}:
            raise ValueError("not one number per bin")
        return self


class Metadata(BaseModel):
    """The ONNX file's metadata, one JSON value per key."""

    version: str
    created: str  # ISO 8601, UTC
    fields: list[list[Any]]
    fingerprint: str
    threshold: float = Field(gt=0, lt=1)  # the lowest probability that counts as heart disease
    data: dict[str, Any]  # training data: file, sha256, rows, split
    flags: dict[str, Any]  # the trainer's settings
    metrics: dict[str, Any]
    libraries: dict[str, str]
    promotion: dict[str, Any] = {}  # comparison with the version that served before
    linearity: dict[str, Any] = {}  # how far the network is from a logistic regression: trainer/linearity.py
    checks: Checks = Checks()
    bins: dict[str, Bins] = {}  # by field, and "probability"
    background: list[Row] = []  # representative training rows, the reference of explanations

    def to_strings(self) -> dict[str, str]:
        """Return the key-value pairs as ONNX stores them."""
        return {key: json.dumps(value) for key, value in self.model_dump().items()}

    @classmethod
    def from_strings(cls, pairs: dict[str, str]) -> "Metadata":
        """Read the pairs of `to_strings`. Raises ArtefactError for a missing or invalid key, naming it."""
        try:
            return cls.model_validate({key: json.loads(pairs[key]) for key in cls.model_fields if key in pairs})
        except ValidationError as error:
            keys = ", ".join(str(e["loc"][0]) for e in error.errors())
            raise ArtefactError(f"its metadata lack or garble {keys}: not a file of this project's trainer") from None
        except (ValueError, RecursionError):
            raise ArtefactError("its metadata are not JSON: not a file of this project's trainer") from None

    def check(self) -> None:
        """Raise ArtefactError, naming the difference, for a model made for other fields or another encoding."""
        ours, theirs = fingerprint(), self.fingerprint
        if ours == theirs:
            if any(len(row) != len(schema()) for row in self.background):
                raise ArtefactError("its background rows are not rows of these fields")
            return
        mine, other = ([f"{name}{codes or ''}" for name, codes in side] for side in (schema(), self.fields))
        same = "the same in another order or encoding"
        takes = ", ".join(field for field in other if field not in mine) or same
        wants = ", ".join(field for field in mine if field not in other) or same
        raise ArtefactError(f"its fingerprint is {theirs[:12]}, ours {ours[:12]}: it takes {takes}; this code {wants}")


def read_start(file: Path, size: int) -> bytes:
    """Read at most `size` bytes of a file. Raises OSError, and ArtefactError for what is no regular file."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for a writer
    with open(descriptor, "rb") as opened:  # noqa: PTH123  # of a descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ArtefactError("it is not a regular file")
        return opened.read(size)


def versions(models: Path) -> list[int]:
    """Return the complete versions in a model folder, in ascending order; empty without such a folder."""
    return sorted(int(file.parent.name) for file in models.glob(f"*/{FILE}") if file.parent.name.isdecimal())


def pinned(models: Path) -> int | None:
    """Return the version that the file `serve` in a model folder names; None without it. Raises ArtefactError."""
    file = models / PIN
    try:
        text = read_start(file, 20).decode(errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtefactError(f"{file}: {error.strerror}") from None
    except ArtefactError as error:
        raise ArtefactError(f"{file}: {error}") from None
    if not (text.isascii() and text.isdecimal()):
        raise ArtefactError(f"{file}: it must hold the number of the version that serves, and nothing else")
    return int(text)
