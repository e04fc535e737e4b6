"""Progress and summary on stderr: a bar, then invalid rows and counts. No message repeats a value."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from patient.printable import printable
from service.cli.score.job import Outcome
from service.records.errors import MAX_LISTED_ERRORS


def say(line: str) -> None:
    sys.stderr.write(f"score: {printable(line)}\n")


class Bar(Progress):
    """A bar over all parts: rows, rows per second, time left. It is shown on a terminal only.

    size: bytes of input; None if unknown
    """

    def __init__(self, size: int | None, quiet: bool) -> None:
        console = Console(stderr=True)
        rows, speed = TextColumn("{task.fields[rows]:,} rows"), TextColumn("{task.fields[speed]:,.0f} rows/s")
        hidden = quiet or not console.is_terminal
        super().__init__(
            rows, BarColumn(), speed, TimeRemainingColumn(), console=console, disable=hidden, transient=True
        )
        self.add_task("rows", total=size, rows=0, speed=0)
        self.bytes = self.rows = 0

    def tick(self, read: int, rows: int) -> None:
        """Show the bytes and rows so far of the running part."""
        rows += self.rows
        [task] = self.tasks
        self.update(task.id, completed=self.bytes + read, rows=rows, speed=rows / (task.elapsed or 1))

    def done(self, size: int | None, rows: int) -> None:
        """Add a finished part."""
        self.bytes += size or 0
        self.rows += rows
        self.tick(0, 0)


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
    for outcome in outcomes if not quiet else []:
        for note in outcome.notes:
            say(f"{outcome.name}: {note}")
    bad, total = (sum(getattr(outcome, count) for outcome in outcomes) for count in ("bad", "total"))
    if total > len(listed):
        say(f"  and {total - len(listed):,} more")
    done = len(outcomes) - len(failed)
    if done and (failed or bad or not quiet):
        rows = sum(outcome.rows for outcome in outcomes)
        parts = f" in {done:,} of {len(outcomes):,} parts, {before:,} of them finished before" if several else ""
        say(f"{rows:,} rows{parts}, {bad:,} bad")
