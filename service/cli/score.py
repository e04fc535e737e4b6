"""`python -m service score`: the flags, the order of the steps, the exit status."""

import argparse
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import get_args

from patient.artefact import ArtefactError
from service.cli import show, store
from service.cli.attempt import InTurn, said
from service.cli.job import KINDS, Job, Kind, Outcome, Usage
from service.cli.local import Local
from service.cli.plan import Executor, Plan, plan
from service.cli.remote import Remote
from service.model.device import DeviceLost, GpuOptions, ProviderError
from service.records.errors import ColumnsError, RecordError
from service.settings import Provider, Settings, SettingsError, from_command_line
from service.tables import columns

PROGRAM = "python -m service score"
GOOD, FAILED, USAGE, BAD_ROWS, INTERRUPTED = 0, 1, 2, 3, 130

ABOUT = """\
Score tables of patients: CSV, NDJSON, JSON, Arrow and Parquet, in and out,
also as .gz and .zst.

One IN gives one file OUT. A folder, a glob in quotes or several IN give a
folder OUT with a part for each table; a part that is finished (same input,
options and model) is not made again. OUT ends in the format of the answers, or
has that of IN; URLs of object stores (s3://, gs://) may stand for paths. The
answers are the columns that --keep names, then probability, heart_disease and
missing, row for row in the order of IN."""

STATUS = """\
exit status:
  0    every row is scored
  1    something failed or was refused, and has no answer: see stderr
  2    the command line asks for what cannot be
  3    every table is answered, and in them bad rows are reported
  130  interrupted
Rows are counted from 0, as in the service's answers. A file is there when it is
whole, and not before."""


def main(arguments: list[str], program: str = PROGRAM) -> int:
    """Run the command, called so; returns its exit status."""
    try:
        return _run(parser(from_command_line([]), program).parse_intermixed_args(arguments))
    except (Usage, ColumnsError, SettingsError) as error:
        show.say(str(error))
        return USAGE
    except (ArtefactError, DeviceLost, ProviderError, RecordError) as error:
        show.say(str(error))
        return FAILED
    except BrokenPipeError:  # who read stdout has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        show.say(f"{f'{error.filename}: ' if error.filename else ''}{said(error)}")
        return FAILED
    except KeyboardInterrupt:
        show.say("interrupted; parts that are finished stay")
        return INTERRUPTED


def parser(settings: Settings, program: str) -> argparse.ArgumentParser:
    """What reads the command line."""
    parser = argparse.ArgumentParser(
        program,
        description=ABOUT,
        epilog=STATUS,
        usage="%(prog)s [options] IN [IN ...] OUT",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("paths", nargs="+", metavar="IN OUT", help="files, folders, globs or URLs; - is stdin or stdout")
    add("--keep", default="", metavar="A,B", help="other columns to pass through; * is all of them")
    add(
        "--on-error",
        choices=("refuse", "report"),
        default="refuse",
        help="one bad row refuses its table (the default), or is answered in place by null and an `error`",
    )
    add("--format", metavar="KIND", help=f"what IN is: {', '.join(KINDS)}; also csv.gz and the like")
    add("--to", metavar="KIND", help="what OUT is, in place of its name's end")
    add("--models", type=Path, help=f"folder of the model's versions (default: {settings.models}, as for the service)")
    add("--provider", choices=get_args(Provider), help=f"what the model runs on (default: {settings.provider})")
    add("--url", help="score through this service instead, such as http://127.0.0.1:8000")
    add(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: on a cluster, a table at a time each; OUT is a folder",
    )
    add("--ray-address", help="of the cluster; without, one is started here")
    add("--workers", type=int, help="models on the cluster (default: one a GPU, or else one a CPU)")
    add("--quiet", action="store_true", help="no bar, and no words where all is well")
    parser.set_defaults(settings=settings)
    return parser


def _run(asked: argparse.Namespace) -> int:
    *inputs, output = asked.paths
    ray = asked.engine == "ray"
    if not inputs:
        raise Usage("both IN and OUT are needed")
    if asked.url and (ray or asked.models or asked.provider):
        raise Usage("--url: the service has its own model, provider and machines")
    if not ray and (asked.ray_address or asked.workers):
        raise Usage("--ray-address and --workers go with --engine ray")
    if asked.workers is not None and asked.workers < 1:
        raise Usage("--workers: at least 1")
    job = Job(columns.parse_keep(asked.keep), asked.on_error == "report")
    came = Kind.named("--format", asked.format) if asked.format else None
    to = Kind.named("--to", asked.to) if asked.to else None
    found = plan(inputs, output, came, to, parts=ray)
    for name in found.others:
        show.say(f"{name}: left out, no table by its name")
    with _executor(asked, job) as executor:
        if found.folder is None:
            outcomes, before = [_one(found, executor, asked.quiet)], 0
        else:
            outcomes, before = _parts(found, found.folder, executor, job, asked.quiet)
    show.summary(outcomes, before, asked.quiet)
    if any(outcome.failure for outcome in outcomes):
        return FAILED
    return BAD_ROWS if any(outcome.bad for outcome in outcomes) else GOOD


def _executor(asked: argparse.Namespace, job: Job) -> AbstractContextManager[Executor]:
    if asked.url:
        return nullcontext(InTurn(Remote(asked.url, job), job))
    models, provider = asked.models or asked.settings.models, asked.provider or asked.settings.provider
    gpu = GpuOptions.of(asked.settings)
    if asked.engine == "local":
        return nullcontext(InTurn(Local.load(models, provider, gpu, job), job))
    from service.cli.cluster import joined  # Ray is an extra

    return joined(Local.load(models, "cpu", gpu, job), provider, gpu, asked.ray_address, asked.workers)


def _one(found: Plan, executor: Executor, quiet: bool) -> Outcome:
    """A single table, into a file or stdout."""
    [part] = found.parts
    folder = part.target.rpartition("/")[0]
    if folder:
        store.sweep(found.target, folder, store.ABANDONED)
    with show.bar(part.size, quiet) as bar:
        [outcome] = executor.attempts(found, [part], folder, bar.tick)
    if outcome.hidden:
        store.commit(found.target, outcome.hidden, part.target)
    return outcome


def _parts(found: Plan, path: str, executor: Executor, job: Job, quiet: bool) -> tuple[list[Outcome], int]:
    """A folder of parts: what came of each, in order, and how many were there before."""
    with store.Folder(found.target, path, job, executor.identity) as folder:
        outcomes = {part.name: folder.finished(part) for part in found.parts}
        left = {part.name: part for part in found.parts if outcomes[part.name] is None}
        before = len(outcomes) - len(left)
        with show.bar(sum(part.size or 0 for part in left.values()), quiet) as bar:
            for outcome in executor.attempts(found, list(left.values()), folder.notes, bar.tick):
                part = left[outcome.name]
                if outcome.hidden:
                    folder.commit(part, outcome)
                outcomes[part.name] = outcome
                bar.done(part.size, outcome.rows)
        if strangers := folder.strangers(found.parts):
            show.say(f"{path} also holds {len(strangers):,} parts of other inputs, such as {strangers[0]}")
    return [outcome for outcome in outcomes.values() if outcome], before
