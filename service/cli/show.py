"""What a person sees, on stderr: a bar while it runs, bad rows and counts when it is done. Never a value."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from service.cli.job import Outcome
from service.records.errors import MAX_LISTED_ERRORS


def say(line: str) -> None:
    """One line."""
    sys.stderr.write(f"score: {line}\n")


class Bar:
    """Rows, rows a second, time left, over all parts; shown to people at a terminal alone."""

    def __init__(self, progress: Progress, total: int | None) -> None:
        self.progress, self.begun = progress, time.monotonic()
        self.task = progress.add_task("rows", total=total, rows="0 rows", speed="")
        self.bytes = self.rows = 0

    def tick(self, read: int, rows: int) -> None:
        """So far, of the part that is under way."""
        rows += self.rows
        speed = rows / max(time.monotonic() - self.begun, 1e-9)
        self.progress.update(
            self.task, completed=self.bytes + read, rows=f"{rows:,} rows", speed=f"{speed:,.0f} rows/s"
        )

    def done(self, size: int | None, rows: int) -> None:
        """A part is."""
        self.bytes += size or 0
        self.rows += rows
        self.tick(0, 0)


@contextmanager
def bar(total: int | None, quiet: bool) -> Iterator[Bar]:
    """A bar over so many bytes of input; without an end where nobody knows how many."""
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
    """The first bad rows, what failed, and the counts."""
    several = len(outcomes) > 1
    failed = [outcome for outcome in outcomes if outcome.failure]
    for outcome in failed[:MAX_LISTED_ERRORS]:
        say(f"{outcome.name}: {outcome.failure}")
    if len(failed) > MAX_LISTED_ERRORS:
        say(f"and {len(failed) - MAX_LISTED_ERRORS:,} more parts have failed")
    listed = [(outcome.name, fault) for outcome in outcomes for fault in outcome.faults][:MAX_LISTED_ERRORS]
    for name, fault in listed:
        place = ", ".join(filter(None, (f"row {fault.row}", fault.column)))
        say(f"  {f'{name} ' if several else ''}{place}: {fault.reason}")
    bad, total = (sum(getattr(outcome, what) for outcome in outcomes) for what in ("bad", "total"))
    if total > len(listed):
        say(f"  and {total - len(listed):,} more")
    made = len(outcomes) - len(failed)
    if made and (failed or bad or not quiet):
        rows = sum(outcome.rows for outcome in outcomes)
        parts = f" in {made:,} of {len(outcomes):,} parts, {before:,} of them made before" if several else ""
        say(f"{rows:,} rows{parts}, {bad:,} bad")
