"""Progress and summary on stderr: a bar, then invalid rows and counts. No message repeats a value."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from service.cli.job import Outcome
from service.records.errors import MAX_LISTED_ERRORS


def say(line: str) -> None:
    sys.stderr.write(f"score: {line}\n")


class Bar:
    """A progress bar over all parts: rows, rows per second, time left. It is shown on a terminal only."""

    def __init__(self, progress: Progress, total: int | None) -> None:
        self.progress, self.started = progress, time.monotonic()
        self.task = progress.add_task("rows", total=total, rows="0 rows", speed="")
        self.bytes = self.rows = 0

    def tick(self, read: int, rows: int) -> None:
        """Show the bytes and rows so far of the running part."""
        rows += self.rows
        speed = rows / max(time.monotonic() - self.started, 1e-9)
        self.progress.update(
            self.task, completed=self.bytes + read, rows=f"{rows:,} rows", speed=f"{speed:,.0f} rows/s"
        )

    def done(self, size: int | None, rows: int) -> None:
        """Add a finished part."""
        self.bytes += size or 0
        self.rows += rows
        self.tick(0, 0)


@contextmanager
def bar(total: int | None, quiet: bool) -> Iterator[Bar]:
    """Show a bar over `total` bytes of input; None if the size is unknown."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.fields[rows]}"),
        BarColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as progress:
        yield Bar(progress, total)


def summary(outcomes: Sequence[Outcome], before: int, quiet: bool) -> None:
    """Print failures, the first invalid rows, and the counts. `before`: parts that an earlier run finished."""
    several = len(outcomes) > 1
    failed = [outcome for outcome in outcomes if outcome.failure]
    for outcome in failed[:MAX_LISTED_ERRORS]:
        say(f"{outcome.name}: {outcome.failure}")
    if len(failed) > MAX_LISTED_ERRORS:
        say(f"and {len(failed) - MAX_LISTED_ERRORS:,} more parts failed")
    listed = [(outcome.name, fault) for outcome in outcomes for fault in outcome.faults][:MAX_LISTED_ERRORS]
    for name, fault in listed:
        place = ", ".join(filter(None, (f"row {fault.row}", fault.column)))
        say(f"  {f'{name} ' if several else ''}{place}: {fault.reason}")
    bad, total = (sum(getattr(outcome, count) for outcome in outcomes) for count in ("bad", "total"))
    if total > len(listed):
        say(f"  and {total - len(listed):,} more")
    done = len(outcomes) - len(failed)
    if done and (failed or bad or not quiet):
        rows = sum(outcome.rows for outcome in outcomes)
        parts = f" in {done:,} of {len(outcomes):,} parts, {before:,} of them finished before" if several else ""
        say(f"{rows:,} rows{parts}, {bad:,} bad")
