"""`heart predict` and `heart explain`: one patient, by a model in this process or by a service."""

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from patient.artefact import ArtefactError
from patient.command_line import HELP, SettingsError
from patient.encoding import as_rows
from patient.printable import printable
from patient.record import PatientRecord
from service.cli import record_options, rendering
from service.cli.record_options import InvalidPatient, RecordOption
from service.client import Client, InvalidRecord, ServiceError
from service.records.schema import Explanation, Prediction
from service.settings import read_client_key, read_settings

STATUS = """\b
Exit status:
  0  the result is printed
  1  a failure: no model, or no response from the service
  2  the command line is wrong
  3  the patient record in FILE is invalid"""

PATIENT = """Give the patient by options, where a measurement that is left out was not taken (age and sex are required),
or as a FILE with the JSON object that the service takes: all 13 fields, null if not taken; - is stdin. Options override
the FILE. A code is a number, its label, or an unambiguous beginning of the label.

\b
  heart {name} --age 63 --sex male --cp asymptomatic --thal reversible
  heart {name} patient.json --chol null"""

DEADLINE_SECONDS = 5.0  # as long as a person waits at a terminal


class LocalModel:
    """A folder's pinned or highest version, on the CPU, which starts faster than a GPU. Raises ArtefactError."""

    def __init__(self, models: Path) -> None:
        from service.model.loading import load  # with --url, ONNX Runtime is not needed
        from service.model.model_file import bundled_notice, model_folder

        folder = model_folder(models)
        self.model = load(folder, "cpu")
        if folder != models:
            click.echo(bundled_notice(models, self.model.version), err=True)

    def predict(self, record: PatientRecord) -> Prediction:
        """Return what POST /predict returns."""
        from service.records.results import record_result, rounded

        probability = float(rounded(self.model(as_rows([record])))[0])
        values = tuple(record.__dict__.values())
        result = record_result(probability, values, self.model.metadata.threshold, self.model.version)
        return Prediction.model_validate_json(result)

    def explain(self, record: PatientRecord) -> Explanation:
        """Return what POST /explain returns. Raises ArtefactError if the model file has no background patients."""
        from service.explain.explanation import explain

        if not self.model.metadata.background:
            raise ArtefactError(f"model version {self.model.version} has no background patients to explain with")
        return explain(self.model, tuple(record.__dict__.values()))


class RecordCommand(click.Command):
    """A command whose help lists the options for measurements apart from the others."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        for title, wanted in (("Measurements", True), ("Options", False)):
            shown = [option for option in options if isinstance(option, RecordOption) is wanted]
            with formatter.section(title):
                formatter.write_dl([record for option in shown if (record := option.get_help_record(ctx))])


def _command(name: str, about: str) -> RecordCommand:
    def run(file: str | None, as_json: bool, models: Path | None, url: str | None, **measured: Any) -> None:
        if url and models:
            raise click.UsageError("--url and --models exclude each other: the service has its own model.")
        try:
            record = record_options.read_record(file, measured)
            with _open_model(models, url) as model:
                result = model.predict(record) if name == "predict" else model.explain(record)
        except InvalidRecord as error:
            raise InvalidPatient(str(error)) from None
        except SettingsError as error:
            raise click.UsageError(str(error)) from None
        except (ArtefactError, ServiceError) as error:
            raise click.ClickException(printable(error)) from None
        except OSError as error:
            raise click.ClickException(printable(f"{error.filename or file}: {error.strerror or error}")) from None
        if as_json:
            click.echo(printable(result.model_dump_json()))
            return
        console = Console(file=sys.stdout, highlight=False)
        if isinstance(result, Prediction):
            rendering.print_prediction(console, record, result)
        else:
            rendering.print_explanation(console, result)

    params = [
        *record_options.parameters(),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the JSON that the service returns, on one line."),
        click.Option(
            ["--models"],
            type=click.Path(path_type=Path),
            help="Folder of the model's versions; default: HEART_MODELS, or models/heart_disease.",
        ),
        click.Option(["--url"], help="Use this service, such as http://127.0.0.1:8000; HEART_KEY is its API key."),
    ]
    return RecordCommand(name, HELP, run, params, help=f"{about}\n\n{PATIENT.format(name=name)}", epilog=STATUS)


def _open_model(models: Path | None, url: str | None) -> AbstractContextManager[Client | LocalModel]:
    """Raises SettingsError and ArtefactError."""
    if not url:
        return nullcontext(LocalModel(models or read_settings().models))
    key = read_client_key()
    try:
        return Client(url, key=key, deadline=DEADLINE_SECONDS)
    except ValueError as error:
        raise SettingsError(f"--url: {error}") from None


predict = _command("predict", "Predict the probability that a patient has heart disease.")
explain = _command("explain", "Show what each measurement adds to the probability, and what would change the result.")
