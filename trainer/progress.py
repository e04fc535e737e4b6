"""Terminal output of the trainer: lines, tables, progress bars."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from patient.artefact import Metadata
from patient.printable import printable
from trainer.metrics import METRICS
from trainer.report import tables

LINE_SECONDS = 10.0  # between plain lines where stdout is not a terminal

console = Console()


def say(line: str) -> None:
    """Print lines, unwrapped, so that a path in them can be copied."""
    console.print("\n".join(map(printable, line.split("\n"))), soft_wrap=True, highlight=False, markup=False)


def markdown(text: str) -> None:
    """Print a Markdown table in columns, never cut to the width of a terminal."""
    header, _rule, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines())
    rows = [header, *lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        numbers = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        say("  ".join([first.ljust(widths[0]), *numbers]).rstrip())
    say("")


def ask(question: str) -> bool:
    """Ask a yes-no question; False without a terminal."""
    return sys.stdin.isatty() and console.input(f"{question} [y/N] ", markup=False).strip().lower() in ("y", "yes")


@contextmanager
def bars() -> Iterator[Callable[..., None]]:
    """Show a bar for each task, with its losses and the time left; without a terminal a plain line now and then."""
    names, losses_shown = TextColumn("{task.description}"), TextColumn("{task.fields[losses]}")
    columns = (names, MofNCompleteColumn(), BarColumn(), losses_shown, TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        tasks: dict[str, TaskID] = {}
        last_line = time.monotonic()

        def update(name: str, done: int, total: int, losses: Mapping[str, float] | None = None) -> None:
            nonlocal last_line
            text = "  ".join(f"{loss} {value:.4f}" for loss, value in (losses or {}).items())
            if name not in tasks:
                tasks[name] = shown.add_task(name, total=total, losses=text)
            shown.update(tasks[name], completed=done, losses=text)
            if shown.disable and (done == total or time.monotonic() - last_line > LINE_SECONDS):
                last_line = time.monotonic()
                say(f"{name} {done}/{total}  {text}".rstrip())

        yield update


def summary(folder: Path, metadata: Metadata, epochs: int, difference: float) -> None:
    """Print the scores, the parity and the folder of a new model."""
    data = metadata.data
    say(f"\n{epochs} epochs on {data['train_rows']} rows, {data['test_rows']} held out\n")
    rows = [[part, *(f"{values[name]:.4f}" for name in METRICS)] for part, values in metadata.metrics.items()]
    markdown(tables.table(["", *METRICS.values()], rows))
    say(f"Keras and ONNX differ by at most {difference:.1e} on the training rows")
    say(f"Wrote {folder}")
