"""Answers as a person reads them in a terminal: what was measured, bars, and a sentence on what it is not."""

from collections.abc import Iterator

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from patient.record import Measurement, PatientRecord, measurements
from service.records.schema import Answer, Contribution, Explanation, Prediction

WIDTH = 60  # cells of the bar of a probability
SIDE = 10  # of a contribution's, on either side
FOR, AGAINST = "red", "cyan"
CAVEAT = "Not a medical device."


def prediction(console: Console, record: PatientRecord, answer: Prediction) -> None:
    """What was measured, and the probability."""
    width = max(len(field.title) for field in measurements())
    for field, value in zip(measurements(), record.__dict__.values(), strict=True):
        _say(console, Text.assemble(f"{field.title:{width}}  ", _value(field, value)))
    console.print()
    _probability(console, answer, answer.threshold)
    _end(console, answer.model_version)


def explanation(console: Console, answer: Explanation) -> None:
    """The probability, what spoke for and against it, and what would change it."""
    _probability(console, answer, answer.threshold)
    console.print()
    _say(console, Text("What spoke for (+) and against (-) heart disease, in log-odds", "bold"))
    largest = max(abs(one.contribution) for one in answer.contributions) or 1.0
    width = max(len(one.label) for one in answer.contributions)
    for one in answer.contributions:
        label = Text(f"{one.label:{width}}  ", "dim" if one.value is None else "")
        _say(console, Text.assemble(label, _side(console, one, largest), f"{one.contribution:+7.2f}"))
    base, end = _percent(answer.base_probability), _percent(answer.probability)
    _say(console, Text(f"They lead from {base}, the mean of the model's background patients, to {end}.", "dim"))
    console.print()
    _say(console, Text("What would change the answer", "bold"))
    for line in _changes(answer):
        _say(console, Text(line))
    _say(console, Text(answer.note, "dim"))
    _end(console, answer.model_version)


def _say(console: Console, text: Text) -> None:
    console.print(Padding(text, (0, 0, 0, 2), expand=False))


def _changes(answer: Explanation) -> Iterator[str]:
    found = [change for change in answer.changes if change.to is not None]
    for change in found:
        told = "" if change.probability is None else f" ({_percent(change.probability)})"
        yield change.label.partition(". ")[0] + told
    if not found:
        yield "No plausible other value of a single measurement does."


def _probability(console: Console, answer: Answer | Explanation, threshold: float) -> None:
    verdict = "heart disease" if answer.heart_disease else "no heart disease"
    style = FOR if answer.heart_disease else AGAINST
    percent = (_percent(answer.probability), f"bold {style}")
    end = f"  {verdict} (threshold {_percent(threshold)})"
    _say(console, Text.assemble("Probability of heart disease  ", percent, end))
    full, empty, mark = ("█", "░", "┃") if _blocks(console) else ("#", ".", "|")
    width = min(WIDTH, max(console.width - 4, 10))
    filled, at = round(answer.probability * width), min(round(threshold * width), width - 1)
    bar = Text.assemble((full * filled, style), (empty * (width - filled), "dim"))
    _say(console, Text.assemble(bar[:at], (mark, "bold"), bar[at + 1 :]))


def _side(console: Console, one: Contribution, largest: float) -> Text:
    """A bar that grows to the right for heart disease, and to the left against it."""
    full, middle = ("█", "│") if _blocks(console) else ("#", "|")
    cells = full * round(abs(one.contribution) / largest * SIDE)
    left, right = ("", cells) if one.contribution > 0 else (cells, "")
    return Text.assemble((left.rjust(SIDE), AGAINST), middle, (right.ljust(SIDE), FOR))


def _value(field: Measurement, value: float | None) -> tuple[str, str]:
    if value is None:
        return "not taken", "dim"
    return (field.codes[int(value)] if field.codes else f"{value:g} {field.unit}"), ""


def _percent(probability: float) -> str:
    """With a digit behind the point, but never as certain as 0 % or 100 %."""
    return f"{min(max(100 * probability, 0.1), 99.9):.1f} %" if probability != 0.5 else "50 %"


def _end(console: Console, version: str) -> None:
    console.print()
    _say(console, Text(f"Model version {version}. {CAVEAT}", "dim"))


def _blocks(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")
