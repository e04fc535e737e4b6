"""What the trainer shows while it works and when it is done."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from patient.artefact import Metadata
from trainer.fit import Tick

COLUMNS = {"log_loss": "log loss", "auc": "AUC", "accuracy": "accuracy", "brier": "Brier", "ece": "ECE"}


console = Console()


def say(line: str) -> None:
    """One line, unwrapped, so that a path in it can be copied."""
    console.print(line, soft_wrap=True, highlight=False)


@contextmanager
def bar(epochs: int) -> Iterator[Tick]:
    """A bar with epoch, loss and time left; a plain line every tenth of the way where nobody watches."""
    columns = (TextColumn("epoch"), MofNCompleteColumn(), BarColumn(), TextColumn("loss {task.fields[loss]:.4f}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task("", total=epochs, loss=float("nan"))

        def tick(epoch: int, loss: float) -> None:
            shown.update(task, completed=epoch, loss=loss)
            if shown.disable and epoch * 10 // epochs > (epoch - 1) * 10 // epochs:
                say(f"epoch {epoch}/{epochs}  loss {loss:.4f}")

        yield tick


def summary(folder: Path, metadata: Metadata, epochs: int, difference: float) -> None:
    """The scores as a table, and where the model lies."""
    data = metadata.data
    table = Table(
        title=f"{epochs} epochs on {data['train_rows']} rows, {data['test_rows']} held out", title_justify="left"
    )
    table.add_column("")
    for title in COLUMNS.values():
        table.add_column(title, justify="right")
    for part, values in metadata.metrics.items():
        table.add_row(part, *(f"{values[name]:.4f}" for name in COLUMNS))
    console.print(table)
    say(f"Keras and ONNX differ by at most {difference:.1e} on all {data['rows']} rows")
    say(f"Wrote {folder}")
