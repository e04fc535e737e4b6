"""Print predictions and explanations in a terminal: measurements, bars, and the note that this is no medical device."""

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from patient.record import Measurement, PatientRecord, measurements
from service.records.schema import Contribution, Explanation, Prediction

BAR_WIDTH = 60  # cells of the bar of a probability
SIDE_WIDTH = 10  # cells on either side of the bar of a contribution
FOR, AGAINST = "red", "cyan"
CAVEAT = "Not a medical device."


def print_prediction(console: Console, record: PatientRecord, result: Prediction) -> None:
    """Print the measurements and the probability."""
    width = max(len(field.title) for field in measurements())
    for field, value in zip(measurements(), record.__dict__.values(), strict=True):
        _print(console, Text.assemble(f"{field.title:{width}}  ", _describe(field, value)))
    console.print()
    _print_probability(console, result)
    _print_footer(console, result.model_version)


def print_explanation(console: Console, result: Explanation) -> None:
    """Print the probability, the contribution of each measurement, and what would change the result."""
    _print_probability(console, result)
    console.print()
    _print(console, Text("What raises (+) and lowers (-) the probability, in log-odds", "bold"))
    largest = max(abs(one.contribution) for one in result.contributions) or 1.0
    width = max(len(one.label) for one in result.contributions)
    for one in result.contributions:
        label = Text(f"{one.label:{width}}  ", "dim" if one.value is None else "")
        _print(console, Text.assemble(label, _contribution_bar(console, one, largest), f"{one.contribution:+7.2f}"))
    base, end = _percent(result.base_probability), _percent(result.probability)
    total = f"Together they move the probability from {base} (mean of the background patients) to {end}."
    _print(console, Text(total, "dim"))
    console.print()
    _print(console, Text("What would change the result", "bold"))
    changes = [change for change in result.changes if change.to is not None]
    for change in changes:
        probability = "" if change.probability is None else f" ({_percent(change.probability)})"
        _print(console, Text(change.label.partition(". ")[0] + probability))
    if not changes:
        _print(console, Text("No plausible value of a single measurement would."))
    _print(console, Text(result.note, "dim"))
    _print_footer(console, result.model_version)


def _print(console: Console, text: Text) -> None:
    # Of the same length, so that its styles stay where they are.
    text.plain = "".join(char if char.isprintable() else "\ufffd" for char in text.plain)
    console.print(Padding(text, (0, 0, 0, 2), expand=False))


def _print_probability(console: Console, result: Prediction | Explanation) -> None:
    threshold = result.threshold
    verdict = "heart disease" if result.heart_disease else "no heart disease"
    style = FOR if result.heart_disease else AGAINST
    percent = (_percent(result.probability), f"bold {style}")
    end = f"  {verdict} (threshold {_percent(threshold)})"
    _print(console, Text.assemble("Probability of heart disease  ", percent, end))
    full, empty, mark = ("█", "░", "┃") if _can_print_blocks(console) else ("#", ".", "|")
    width = min(BAR_WIDTH, max(console.width - 4, 10))
    filled, at = round(result.probability * width), min(round(threshold * width), width - 1)
    bar = Text.assemble((full * filled, style), (empty * (width - filled), "dim"))
    _print(console, Text.assemble(bar[:at], (mark, "bold"), bar[at + 1 :]))


def _contribution_bar(console: Console, one: Contribution, largest: float) -> Text:
    """Return a bar that grows to the right for heart disease, to the left against it."""
    full, middle = ("█", "│") if _can_print_blocks(console) else ("#", "|")
    cells = full * round(abs(one.contribution) / largest * SIDE_WIDTH)
    left, right = ("", cells) if one.contribution > 0 else (cells, "")
    return Text.assemble((left.rjust(SIDE_WIDTH), AGAINST), middle, (right.ljust(SIDE_WIDTH), FOR))


def _describe(field: Measurement, value: float | None) -> tuple[str, str]:
    if value is None:
        return "not taken", "dim"
    if value == field.unspecified:
        return f"{field.codes[int(value)]} (counts as not taken)", "dim"
    return (field.codes[int(value)] if field.codes else f"{value:g} {field.unit}"), ""


def _percent(probability: float) -> str:
    """Return a percentage with one decimal, never 0 % or 100 %: no prediction is certain."""
    return f"{min(max(100 * probability, 0.1), 99.9):.1f} %" if probability != 0.5 else "50 %"


def _print_footer(console: Console, version: str) -> None:
    console.print()
    _print(console, Text(f"Model version {version}. {CAVEAT}", "dim"))


def _can_print_blocks(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")
