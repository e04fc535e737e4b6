"""One patient from a command line: a flag for each field of PatientRecord, and a file; codes also by their words."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from patient.record import FIELDS, Measurement, PatientRecord, measurements
from service.records.decoding import decode_record
from service.records.errors import InvalidRecord, MalformedJson

NOT_TAKEN = object()  # as `null` is read: click takes None for a flag that was not given
NULL = ("null", "not taken")
LARGEST = 2**16  # bytes of a record


class InvalidPatient(Exception):
    """The record in the file is none. The message has a line for each fault, and repeats no value."""


class Value(click.ParamType[Any]):
    """A measurement's value: a number, for a category its code or the word for it, or null."""

    def __init__(self, field: Measurement) -> None:
        self.field, self.name = field, field.name
        self.words = {_plain(label): code for code, label in field.codes.items()}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See click. What is refused is not repeated."""
        text = _plain(str(value))
        if self.field.nullable and text in NULL:
            return NOT_TAKEN
        found = self._code(text) if self.field.codes else self._number(text)
        return self.fail(f"{self.field.expected}.", param, ctx) if found is None else found

    def _number(self, text: str) -> float | None:
        try:
            number = float(text)
        except ValueError:
            return None
        return number if self.field.low <= number <= self.field.high else None  # which NaN is not

    def _code(self, text: str) -> int | None:
        """A code by its number, by its word, or by a beginning that no other word has."""
        if text.isascii() and text.isdecimal():
            return int(text) if int(text) in self.field.codes else None
        if text in self.words:
            return self.words[text]
        found = [code for word, code in self.words.items() if text and word.startswith(text)]
        return found[0] if len(found) == 1 else None

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """See click."""
        words = [word.replace(" ", "-") for word in self.words]
        return [CompletionItem(word) for word in words if word.startswith(incomplete.lower())]


def _plain(text: str) -> str:
    """`Non-anginal_Pain` and `non anginal pain` are one."""
    return " ".join(text.lower().replace("-", " ").replace("_", " ").split()) if not _is_number(text) else text.strip()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class Measured(click.Option):
    """A field's flag; help lists them apart from the others."""

    def __init__(self, field: Measurement) -> None:
        if field.codes:
            words = ", ".join(f"{code} {label}" for code, label in field.codes.items())
            text, metavar = f"{field.title}: {words}", "CODE"
        else:
            text, metavar = f"{field.title}: {field.low:g} to {field.high:g} {field.unit}", "NUMBER"
        super().__init__([f"--{field.name}"], type=Value(field), help=text, metavar=metavar)


def options() -> list[click.Parameter]:
    """FILE and the 13 flags."""
    file = click.Argument(["file"], type=click.Path(dir_okay=False, allow_dash=True), required=False)
    return [file, *map(Measured, measurements())]


def record(file: str | None, flags: Mapping[str, Any]) -> PatientRecord:
    """The patient of a file, as far as no flag says otherwise; or of the flags, where what is not given was not taken.

    Raises InvalidPatient, OSError and click.UsageError.
    """
    given = {name: None if value is NOT_TAKEN else value for name, value in flags.items() if value is not None}
    if file is None:
        if lacking := [f"--{field.name}" for field in measurements() if not field.nullable and field.name not in given]:
            raise click.UsageError(f"Which patient? Give {' and '.join(lacking)}, and what else is known; or a FILE.")
        return PatientRecord.model_validate(dict.fromkeys(FIELDS) | given)
    content = _content(file)
    if given:
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None  # which is refused below, in the service's words
        if isinstance(found, dict):
            content = json.dumps(found | given).encode()
    return read(content)


def _content(file: str) -> bytes:
    with click.open_file(file, "rb") if file == "-" else Path(file).open("rb") as stream:
        content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise InvalidPatient("More than one patient: `heart score` takes tables.")
    return content


def read(content: bytes) -> PatientRecord:
    """Read a record from JSON, as POST /predict does, and refuse it in the same words. Raises InvalidPatient."""
    try:
        return PatientRecord.model_validate(dict(zip(FIELDS, decode_record(content), strict=True)))
    except InvalidRecord as error:
        raise InvalidPatient("\n".join(": ".join(filter(None, fault)) for fault in error.faults)) from None
    except MalformedJson as error:
        raise InvalidPatient(str(error)) from None
