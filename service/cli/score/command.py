"""`heart score` and `python -m service score`: the options, the order of the steps, the exit status."""

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import click
from pydantic import BaseModel, Field

from patient.artefact import ArtefactError
from patient.command_line import HELP, SettingsError, options, parse
from service.cli.score import output_files, progress
from service.cli.score.attempt import SequentialExecutor
from service.cli.score.job import KINDS, Job, Kind, Outcome
from service.cli.score.local_engine import LocalEngine
from service.cli.score.plan import Executor, Plan, make_plan
from service.cli.score.remote_engine import RemoteEngine
from service.cli.score.storage import folder_of
from service.client.sender import describe_error
from service.model.device import DeviceLost, GpuOptions, ProviderError
from service.records.errors import ColumnsError, RecordError
from service.settings import Provider, read_settings
from service.tables import columns

SUCCESS, FAILED, USAGE, BAD_ROWS, INTERRUPTED = 0, 1, 2, 3, 130

STATUS = """\b
Exit status:
  0    every row is scored
  1    a table failed or was refused and has no output: see stderr
  2    the command line is wrong
  3    every table is scored, but some rows are invalid and reported in place
  130  interrupted"""


class ScoreOptions(BaseModel):
    """Score tables of patients: CSV, NDJSON, JSON, Arrow and Parquet, in and out, also as .gz and .zst.

    One file IN gives one file OUT. A folder, a quoted glob or several IN give a folder OUT with one part per table;
    finished parts (same input, options and model) are not scored again. OUT has the format of its suffix or --to;
    without them, a folder or stdout has that of IN.
    Paths may be URLs of object stores (s3://, gs://); - is stdin or stdout.

    The output has the columns of --keep, then probability, heart_disease and missing, in the order of the rows of IN.
    Rows are counted from 0. A file appears only when it is complete.
    """

    keep: str = Field("", description="Other columns to pass through, such as a,b; * keeps all.")
    on_error: Literal["refuse", "report"] = Field(
        "refuse", description="refuse: an invalid row refuses its table; report: its result is null and an `error`."
    )
    format: str | None = Field(None, description=f"Format of IN: {', '.join(KINDS)}; also csv.gz and the like.")
    to: str | None = Field(None, description="Format of OUT, if its name does not end in it.")
    models: Path | None = Field(
        None, description="Folder of the model's versions; default: HEART_MODELS, or models/heart_disease."
    )
    provider: Provider | None = Field(None, description="Where the model runs; default: HEART_PROVIDER, or auto.")
    url: str | None = Field(None, description="Score through the service at this URL; HEART_KEY is its API key.")
    engine: Literal["local", "ray"] = Field(
        "local", description="ray: score on a Ray cluster, one table per worker; OUT is a folder."
    )
    ray_address: str | None = Field(None, description="Address of the cluster; by default one is started here.")
    workers: int | None = Field(None, ge=1, description="Models on the cluster; default: one per GPU, or one per CPU.")


def _score(paths: tuple[str, ...], quiet: bool, **words: Any) -> None:
    try:
        status = _run([*paths], parse(ScoreOptions, words), quiet)
    except (click.UsageError, ColumnsError, SettingsError) as error:
        progress.say(str(error))
        status = USAGE
    except (ArtefactError, DeviceLost, ProviderError, RecordError) as error:
        progress.say(str(error))
        status = FAILED
    except BrokenPipeError:  # the reader of stdout has stopped
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = FAILED
    except OSError as error:
        progress.say(f"{f'{error.filename}: ' if error.filename else ''}{describe_error(error)}")
        status = FAILED
    except KeyboardInterrupt:
        progress.say("interrupted; finished parts are kept")
        status = INTERRUPTED
    click.get_current_context().exit(status)


score = click.Command(
    "score",
    HELP,
    _score,
    [
        click.Argument(["paths"], nargs=-1, metavar="IN... OUT", type=click.Path()),
        *options(ScoreOptions),
        click.Option(["--quiet"], is_flag=True, help="Show no progress, and no summary if all rows are valid."),
    ],
    help=ScoreOptions.__doc__,
    epilog=STATUS,
)


def _run(paths: list[str], given: ScoreOptions, quiet: bool) -> int:
    """Score all tables, print the summary and return the exit status."""
    is_ray = given.engine == "ray"
    if len(paths) < 2:
        raise click.UsageError("both IN and OUT are required")
    if given.url and (is_ray or given.models or given.provider):
        raise click.UsageError("--url excludes --models, --provider and --engine ray: the service has its own model")
    if not is_ray and (given.ray_address or given.workers):
        raise click.UsageError("--ray-address and --workers require --engine ray")
    job = Job(columns.parse_keep(given.keep), given.on_error == "report")
    source_kind = Kind.named("--format", given.format) if given.format else None
    target_kind = Kind.named("--to", given.to) if given.to else None
    plan = make_plan(paths[:-1], paths[-1], source_kind, target_kind, parts=is_ray)
    for line in plan.skipped:
        progress.say(line)
    with _executor(given, job) as executor:
        if plan.folder is None:
            outcomes, before = [_score_one(plan, executor, quiet)], 0
        else:
            outcomes, before = _score_parts(plan, plan.folder, executor, job, quiet)
    progress.summary(outcomes, before, quiet)
    if any(outcome.failure for outcome in outcomes):
        return FAILED
    return BAD_ROWS if any(outcome.bad for outcome in outcomes) else SUCCESS


def _executor(given: ScoreOptions, job: Job) -> AbstractContextManager[Executor]:
    if given.url:
        return nullcontext(SequentialExecutor(RemoteEngine(given.url, job)))
    settings = read_settings()
    models, provider = given.models or settings.models, given.provider or settings.provider
    gpu = GpuOptions.of(settings)
    if given.engine == "local":
        return nullcontext(SequentialExecutor(LocalEngine.load(models, provider, gpu, job)))
    from service.cli.score.cluster import join_cluster  # Ray is an optional dependency

    return join_cluster(LocalEngine.load(models, "cpu", gpu, job), provider, gpu, given.ray_address, given.workers)


def _score_one(plan: Plan, executor: Executor, quiet: bool) -> Outcome:
    """Score a single table into a file or stdout."""
    [part] = plan.parts
    folder = folder_of(part.target)
    if folder:
        output_files.remove_hidden(plan.target, folder, output_files.ABANDONED_SECONDS)
    with progress.Bar(part.size, quiet) as bar:
        [outcome] = executor.attempts(plan, folder, bar.tick)
    if outcome.hidden:
        output_files.commit(plan.target, outcome.hidden, part.target)
    return outcome


def _score_parts(plan: Plan, path: str, executor: Executor, job: Job, quiet: bool) -> tuple[list[Outcome], int]:
    """Score the parts of a folder; return the outcome of each, in order, and how many were finished before."""
    with output_files.Folder(plan.target, path, job, executor.identity) as folder:
        outcomes = {part.name: folder.finished(part) for part in plan.parts}
        left = {part.name: part for part in plan.parts if outcomes[part.name] is None}
        before = len(outcomes) - len(left)
        with progress.Bar(sum(part.size or 0 for part in left.values()), quiet) as bar:
            for outcome in executor.attempts(replace(plan, parts=[*left.values()]), folder.notes, bar.tick):
                part = left[outcome.name]
                if outcome.hidden:
                    folder.commit(part, outcome)
                outcomes[part.name] = outcome
                bar.done(part.size, outcome.rows)
        if others := folder.other_parts(plan.parts):
            progress.say(f"{path} also holds {len(others):,} parts of other inputs, such as {others[0]}")
    return [outcome for outcome in outcomes.values() if outcome], before
