"""`heart predict` and `heart explain`: one patient, answered in this process or by a service."""

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import click
from rich.console import Console

from patient.artefact import ArtefactError
from patient.encoding import as_rows
from patient.record import PatientRecord
from service.cli import flags, picture
from service.client import Client, InvalidRecord, ServiceError
from service.records.schema import Explanation, Prediction
from service.settings import Client as Environment
from service.settings import SettingsError, from_command_line

STATUS = """\b
Exit status:
  0  there is an answer
  1  there is none: no model, or no service that answers
  2  the command line asks for what cannot be
  3  the patient in FILE is refused"""


PATIENCE = 5.0  # seconds that somebody at a terminal waits for a service


class Refusal(click.ClickException):
    """The patient is none."""

    exit_code = 3


class Asked(Protocol):
    """Who answers: the client, or the model in this process."""

    def predict(self, record: PatientRecord, /) -> Prediction:
        """The probability."""

    def explain(self, record: PatientRecord, /) -> Explanation:
        """The reasons."""


class Here:
    """The newest model of a folder, on the CPU: one patient is not worth waking a GPU for. Raises ArtefactError."""

    def __init__(self, models: Path) -> None:
        from service.model.model_file import bundled_notice, model_folder
        from service.model.predictor import load  # ONNX Runtime is for those who ask no service

        self.model = load(folder := model_folder(models), "cpu")
        if folder != models:
            click.echo(bundled_notice(models, self.model.version), err=True)

    def predict(self, record: PatientRecord) -> Prediction:
        """As POST /predict answers."""
        from service.records.results import rounded

        probability = float(rounded(self.model(as_rows([record])))[0])
        threshold = self.model.metadata.threshold
        return Prediction(
            probability=probability,
            heart_disease=probability >= threshold,
            missing=record.missing(),
            threshold=threshold,
            model_version=self.model.version,
        )

    def explain(self, record: PatientRecord) -> Explanation:
        """As POST /explain answers. Raises ArtefactError for a model that has nothing to explain with."""
        from service.explain.explanation import explain

        if not self.model.metadata.background:
            raise ArtefactError(f"model version {self.model.version} has no background patients to explain with")
        return explain(self.model, tuple(record.__dict__.values()))


class Command(click.Command):
    """A command whose flags for measurements stand apart in its help."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click."""
        measured = [found for found in self.params if isinstance(found, flags.Measured)]
        others = [found for found in self.get_params(ctx) if isinstance(found, click.Option) and found not in measured]
        for title, found in (("Measurements", measured), ("Options", others)):
            with formatter.section(title):
                formatter.write_dl([record for one in found if (record := one.get_help_record(ctx))])


def _command(name: str, about: str) -> Command:
    others = [
        click.Option(
            ["--json", "as_json"], is_flag=True, help="the answer as the service gives it, as one line of JSON"
        ),
        click.Option(
            ["--models"],
            type=click.Path(path_type=Path),
            metavar="FOLDER",
            help="of the model's versions (default: as for the service)",
        ),
        click.Option(["--url"], help="ask this service instead, such as http://127.0.0.1:8000; its key: HEART_KEY"),
    ]

    def run(file: str | None, as_json: bool, models: Path | None, url: str | None, **measured: Any) -> None:
        if url and models:
            raise click.UsageError("--url: the service has its own model.")
        _run(name, file, measured, as_json, models, url)

    text = f"{about}\n\n{PATIENT.format(name=name)}"
    return Command(name, params=[*flags.options(), *others], callback=run, help=text, epilog=STATUS)


PATIENT = """The patient is given by flags, where what is not given was not taken (age and sex must be), or in a FILE as
the service takes it: a JSON object with all 13 fields, null for what was not taken; - is stdin. With both, flags come
first. Codes are numbers or words, or a beginning that tells the word.

\b
  heart {name} --age 63 --sex male --cp asymptomatic --thal reversible
  heart {name} patient.json --chol null"""


def _run(
    name: str, file: str | None, measured: dict[str, Any], as_json: bool, models: Path | None, url: str | None
) -> None:
    try:
        record = flags.record(file, measured)
        with _asked(models, url) as asked:
            answer: Prediction | Explanation = asked.predict(record) if name == "predict" else asked.explain(record)
    except (flags.InvalidPatient, InvalidRecord) as error:
        raise Refusal(str(error)) from None
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    except (ArtefactError, ServiceError) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename or file}: {error.strerror or error}") from None
    if as_json:
        click.echo(answer.model_dump_json())
        return
    console = Console(file=sys.stdout, highlight=False)
    if isinstance(answer, Prediction):
        picture.prediction(console, record, answer)
    else:
        picture.explanation(console, answer)


def _asked(models: Path | None, url: str | None) -> AbstractContextManager[Asked]:
    """Raises SettingsError, ArtefactError."""
    if not url:
        return nullcontext(Here(models or from_command_line([]).models))
    key = Environment.from_environment().key
    try:
        return Client(url, key=key.get_secret_value() if key else None, deadline=PATIENCE)
    except ValueError as error:
        raise SettingsError(f"--url: {error}") from None


predict = _command("predict", "The probability that a patient has heart disease.")
explain = _command("explain", "Why the model answers so: what each measurement adds, and what would change the answer.")
