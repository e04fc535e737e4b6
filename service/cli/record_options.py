"""The record of one patient from a command line: an option for each field of PatientRecord, and a file."""

import json
import re
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from patient.record import FIELDS, Measurement, PatientRecord, measurements
from patient.table import is_not_taken
from service.records.decoding import decode_record
from service.records.errors import InvalidRecord, MalformedJson

NOT_TAKEN = object()  # the value of `null`: to click, None is an option that was not given
NULL = ("null", "not taken")
MAX_RECORD_BYTES = 2**16


class InvalidPatient(click.ClickException):
    """The record in the file is invalid. The message has a line for each error and repeats no value."""

    exit_code = 3


class MeasurementType(click.ParamType[Any]):
    """A number; for a category its code or its label; or null. Error messages do not repeat the value.

    A label that elsewhere means "not taken" is refused: Python writes None for what was not taken, but 0 vessels are
    labelled "none".
    """

    def __init__(self, field: Measurement) -> None:
        self.field, self.name = field, field.name
        self.labels = {_words(label): code for code, label in field.codes.items()}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value).strip()
        if self.field.nullable and _words(text) in NULL:
            return NOT_TAKEN
        if (code := self.labels.get(_words(text))) is not None and is_not_taken(text):
            return self.fail(f"{code} or null? {self.field.expected}.", param, ctx)
        found = self._code(text) if self.field.codes else self._number(text)
        return self.fail(f"{self.field.expected}.", param, ctx) if found is None else found

    def _number(self, text: str) -> float | None:
        try:
            number = float(text)
        except ValueError:
            return None
        return number if self.field.low <= number <= self.field.high else None  # no NaN

    def _code(self, text: str) -> int | None:
        """Return a code by its number, its label, or a beginning that no other label has."""
        if text.isascii() and text.isdecimal():
            return int(text) if int(text) in self.field.codes else None
        words = _words(text)
        if words in self.labels:
            return self.labels[words]
        found = [code for label, code in self.labels.items() if words and label.startswith(words)]
        return found[0] if len(found) == 1 else None

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        words = [label.partition(";")[0] for label in self.labels if not is_not_taken(label)]
        labels = [label.replace(" ", "-") for label in words]
        return [CompletionItem(label) for label in labels if label.startswith(incomplete.lower())]


def _words(text: str) -> str:
    """Return `Non-anginal_Pain` as `non anginal pain`."""
    return re.sub(r"[-_\s]+", " ", text).strip().lower()


class RecordOption(click.Option):
    """The option of a field of the record."""

    def __init__(self, field: Measurement) -> None:
        codes = ", ".join(f"{code} {label}" for code, label in field.codes.items())
        text = f"{field.title}: {codes or f'{field.low:g} to {field.high:g} {field.unit}'}"
        metavar = "CODE" if codes else "NUMBER"
        super().__init__([f"--{field.name}"], type=MeasurementType(field), help=text, metavar=metavar)


def parameters() -> list[click.Parameter]:
    """Return the argument FILE and the 13 options."""
    file = click.Argument(["file"], type=click.Path(dir_okay=False, allow_dash=True), required=False)
    return [file, *map(RecordOption, measurements())]


def read_record(file: str | None, options: Mapping[str, Any]) -> PatientRecord:
    """Return the record of a file, with the options in place of its values; or that of the options alone.

    Raises InvalidPatient, OSError and click.UsageError.
    """
    given = {name: None if value is NOT_TAKEN else value for name, value in options.items() if value is not None}
    if file is None:
        required = [field.name for field in measurements() if not field.nullable]
        if lacking := [f"--{name}" for name in required if name not in given]:
            raise click.UsageError(f"Give {' and '.join(lacking)}, or a FILE.")
        return PatientRecord.model_validate(dict.fromkeys(FIELDS) | given)
    with click.open_file(file, "rb") as stream:
        content = stream.read(MAX_RECORD_BYTES + 1)
    if len(content) > MAX_RECORD_BYTES:
        raise InvalidPatient("The file is larger than one patient record; `heart score` takes tables.")
    if given:
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None  # decode_record explains it below
        if isinstance(found, dict):
            content = json.dumps(found | given).encode()
    try:
        return PatientRecord.model_validate(dict(zip(FIELDS, decode_record(content), strict=True)))
    except InvalidRecord as error:
        raise InvalidPatient("\n".join(": ".join(filter(None, fault)) for fault in error.faults)) from None
    except MalformedJson as error:
        raise InvalidPatient(str(error)) from None
