"""What a model file promises: tensor names, the fields it takes, its metadata, and where its versions lie.

Versions lie in models/heart_disease/<version>/model.onnx, whole numbers from 1: the layout of Triton and TF Serving.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from patient.record import measurements

INPUT = "patient"  # float32[N,13], NaN = not taken
OUTPUT = "probability"  # float32[N,1]
FILE = "model.onnx"
PIN = "serve"  # a file beside the versions: the number of the one that serves, where that is not to be the newest
CARD = "MODEL_CARD.md"  # beside it
ENCODING = 1  # raise it when the same fields are encoded in another way


class ArtefactError(Exception):
    """A model file that cannot be trusted, or is not there. The message is one line and names both sides."""


def schema() -> list[list[Any]]:
    """The ordered fields with their codes: [["age", []], ["sex", [0, 1]], ...]."""
    return [[field.name, list(field.codes)] for field in measurements()]


def fingerprint(fields: list[list[Any]] | None = None, encoding: int = ENCODING) -> str:
    """SHA-256 over the ordered fields, their codes and the encoding's version; by default over this code's own."""
    return hashlib.sha256(json.dumps([schema() if fields is None else fields, encoding]).encode()).hexdigest()


Row = list[float | None]  # a patient's 13 values in the order of the fields, None = missing


class Checks(BaseModel):
    """Made-up patients, and what the network answered to them when it was exported: a loaded file must do the same."""

    rows: list[Row] = []
    probabilities: list[float] = []


class Bins(BaseModel):
    """How the training rows are spread over the bins of a measurement, or of the probability."""

    upper: list[float]  # the bins' upper ends, inclusive, without the last: a value lies in searchsorted(upper, value)
    share: list[float]  # of the rows that have it, by bin
    missing: float  # share of rows that lack it
    ill: list[float | None]  # share of the diseased, by bin; None in an empty one


class Metadata(BaseModel):
    """What lies in the ONNX file's metadata, one JSON value a key."""

    model_config = ConfigDict(extra="ignore")

    version: str
    created: str  # ISO 8601, UTC
    fields: list[list[Any]]
    fingerprint: str
    threshold: float = Field(gt=0, lt=1)  # a probability from here on counts as heart disease
    data: dict[str, Any]  # training data: file, sha256, rows, how they were split
    flags: dict[str, Any]  # what the trainer was told
    metrics: dict[str, Any]
    libraries: dict[str, str]
    promotion: dict[str, Any] = {}  # how it compared with the version that served before
    checks: Checks = Checks()
    bins: dict[str, Bins] = {}  # by field, and "probability"
    background: list[Row] = []  # training rows that stand for all, with which explanations compare

    def to_strings(self) -> dict[str, str]:
        """The key-value pairs as ONNX stores them."""
        return {key: json.dumps(value) for key, value in self.model_dump().items()}

    @classmethod
    def from_strings(cls, pairs: dict[str, str]) -> "Metadata":
        """Read what `to_strings` wrote. Raises ArtefactError where a key is absent or unreadable, naming it."""
        try:
            return cls.model_validate({key: json.loads(pairs[key]) for key in cls.model_fields if key in pairs})
        except ValidationError as error:
            keys = ", ".join(str(e["loc"][0]) for e in error.errors())
            raise ArtefactError(f"its metadata lack or garble {keys}: not a file of this project's trainer") from None
        except (ValueError, RecursionError):
            raise ArtefactError("its metadata are not JSON: not a file of this project's trainer") from None

    def check(self) -> None:
        """Refuse a model made for other fields or another encoding, naming what differs."""
        ours, theirs = fingerprint(), self.fingerprint
        if ours == theirs:
            return
        mine, other = ([f"{name}{codes or ''}" for name, codes in side] for side in (schema(), self.fields))
        same = "the same in another order or encoding"
        takes = ", ".join(field for field in other if field not in mine) or same
        wants = ", ".join(field for field in mine if field not in other) or same
        raise ArtefactError(f"its fingerprint is {theirs[:12]}, ours {ours[:12]}: it takes {takes}; this code {wants}")


def versions(models: Path) -> list[int]:
    """The complete versions in a model folder, in rising order; none if there is no such folder."""
    return sorted(int(file.parent.name) for file in models.glob(f"*/{FILE}") if file.parent.name.isdecimal())


def pinned(models: Path) -> int | None:
    """The version that the file `serve` in a model folder names; None without that file. Raises ArtefactError."""
    file = models / PIN
    try:
        text = file.read_bytes()[:20].decode(errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtefactError(f"{file}: {error.strerror}") from None
    if not (text.isascii() and text.isdecimal()):
        raise ArtefactError(f"{file}: it must hold the number of the version that serves, and nothing else")
    return int(text)
