"""The model card: what a person should know before trusting this version."""

from collections.abc import Mapping
from typing import Any

from patient.artefact import Metadata
from patient.encoding import layout
from patient.record import FIELDS
from trainer.report.evidence import Evidence
from trainer.report.findings import findings
from trainer.report.origin import Origin, origin
from trainer.report.tables import REFERENCE, TITLES, patient_table, show, table
from trainer.report.tripod import tripod
from trainer.statistics import METRICS, interval, paired_difference

CROSS_VALIDATED = "(cross-validated)"  # ends the name of a metric that is not of the shipped weights but of its recipe


def card(metadata: Metadata, difference: float, evidence: Evidence | None = None) -> str:
    """The card of a version as Markdown; `{version}` in it stands for the version's number.

    difference: the largest between Keras and ONNX Runtime on the training data
    evidence: of the cross-validation; without it the card has no plots, and says that none was run
    """
    known = origin(metadata.data.get("sha256"))
    parts = [_facts(metadata, evidence, known), USE, _data(evidence, known)]
    parts += [findings(evidence, metadata.threshold)] if evidence else [NONE]
    parts += [_this_network(metadata), _limits(metadata, known), _made(metadata, difference)]
    parts += [
        f"## TRIPOD+AI\n\nThe reporting guideline's items in short, answered or said to be unknown.\n\n{tripod(metadata, evidence, known)}"
    ]
    return "# Heart disease, version {version}\n\n" + "\n\n".join(parts) + "\n"


USE = """## Intended use

For teaching: how a small network is trained, judged, exported and served. For trying out the service with made-up patients.

It must not be used to diagnose, to treat, to refer or to send home anybody; to rank people or set premiums; to screen people
without complaints; on children; or as the label or the teacher of another model that does any of these. It is **not a medical
device**, and nobody has tested it in care."""

NONE = """## Scores

No cross-validation was run for this version: how good the recipe is, how sure that is, and how it does in groups of
patients is unknown. What is known is below."""


def _facts(metadata: Metadata, evidence: Evidence | None, known: Origin) -> str:
    """One page for clinicians."""
    facts = {
        "What it is": "A small neural network that was taught with the measurements of patients of whom it was known whether they had heart disease. For teaching, **not a medical device**.",
        "What goes in": "13 measurements: age, sex, chest pain, blood pressure, cholesterol, blood sugar, resting ECG, the exercise test, fluoroscopy, thallium scan.",
        "What the number means": f"0.30 says: of 100 patients of this kind, about 30 {known.meaning}. It is about now; it is no risk of an event to come, and says nothing of how severe the disease is.",
        "How good": _how_good(metadata, evidence) if evidence else "Not known well: no cross-validation was run. See the scores of this very network.",
        "In whom": f"{known.who}; {metadata.data['rows']} in all." + (_whom(evidence) if evidence else ""),
        "Do not use it for": "Decisions about people: no diagnosis, no treatment, no referral, no reassurance. Not where disease is rarer than among these patients: the number is then too high.",
        "Missing values": "Allowed for all but age and sex; the answer names them. A missing number counts as average, a missing finding as none of its kinds. The more is missing, the less the number is worth" + (": see the table of missing values." if evidence and evidence.missing else "."),
        "Who made the data": f"{known.source}.",
    }  # fmt: skip
    rows = ((f"**{name}**", fact) for name, fact in facts.items())
    return "## Model facts\n\n" + table(["", ""], rows).replace("---:", "---")


def _how_good(metadata: Metadata, evidence: Evidence) -> str:
    target, network = evidence.target, evidence.probability["network"]
    rate = {
        m: interval(target, network, m, threshold=metadata.threshold) for m in ("sensitivity", "specificity", "auc")
    }
    found, cleared = (
        f"{100 * r.value:.0f} of 100 {who} (95 % interval {100 * r.low:.0f} to {100 * r.high:.0f})"
        for r, who in ((rate["sensitivity"], "diseased patients"), (rate["specificity"], "healthy ones"))
    )
    text = f"At the threshold {metadata.threshold:g} it finds {found} and clears {cleared}. AUC {show(rate['auc'], digits=2)}."
    if REFERENCE in evidence.probability:
        gap = paired_difference(target, network, evidence.probability[REFERENCE])
        verdict = "better than" if gap.high < 0 else "worse than" if gap.low > 0 else "not to be told apart from"
        text += f" By log loss it is {verdict} a plain {REFERENCE} on these patients."
    return text + " On patients from elsewhere: unknown."


def _whom(evidence: Evidence) -> str:
    ages, men = evidence.rows[:, FIELDS.index("age")], evidence.rows[:, FIELDS.index("sex")].mean()
    diseased = evidence.target.mean()
    return f" Aged {ages.min():.0f} to {ages.max():.0f}, {100 * men:.0f} % men, {100 * diseased:.0f} % diseased."


def _data(evidence: Evidence | None, known: Origin) -> str:
    text = f"## Data\n\n{known.who}. Outcome: {known.outcome}.\n\nSource: {known.source}. {known.notes}".rstrip()
    if evidence:
        text += f"\n\n{patient_table(evidence)}\n\nNumbers: mean ± standard deviation. Shares are of the patients in whom it was taken."
    return text


def _this_network(metadata: Metadata) -> str:
    if not metadata.metrics:
        return "## This very network\n\nNo rows were scored apart."
    parts = {part: found for part, found in metadata.metrics.items() if not part.endswith(CROSS_VALIDATED)}
    rows = [
        [part, *(f"{found[name]:.3f}" if name in found else "" for name in METRICS)] for part, found in parts.items()
    ]
    data, flags, promotion = metadata.data, metadata.flags, metadata.promotion
    held = (
        f" `test` are {data['test_rows']} rows that it never saw, `majority` is the training rows' share of disease, said of them all."
        if data["test_rows"]
        else ""
    )
    blanking = (
        f"""
While it was trained, {flags["blank"]:.0%} of the rows lost whole measurements in every epoch: each of {", ".join(flags["blank_fields"])}
with a probability of 0.75. That is why it copes without them."""
        if flags.get("blank")
        else ""
    )
    compared = (
        f"""
Before it became a version its log loss was compared with that of version {promotion["version"]}: {promotion["candidate"]:.4f} against
{promotion["serving"]:.4f} ({promotion["rows"]}); up to {promotion["margin"]:g} worse would have been accepted."""
        if "serving" in promotion
        else ""
    )
    return f"""## This very network

{table(["", *TITLES.values()], rows)}

`train` are the {data["train_rows"]} rows that it was fitted on: a score that flatters.{held}
{blanking}
{compared}"""


def _limits(metadata: Metadata, known: Origin) -> str:
    held_out = metadata.data["test_rows"]
    limits = [
        *known.limits,
        "No external validation: all scores are of patients from the same source.",
        "The recipe was chosen on the Cleveland data; on them its scores are slightly optimistic.",
    ]
    if held_out:
        limits.append(
            f"{held_out} held-out patients are not enough to tell good models apart, or to see rare mistakes."
        )
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _made(metadata: Metadata, difference: float) -> str:
    data = metadata.data
    flags = " ".join(command_line(metadata.flags))
    units = ", ".join(map(str, [layout().width, *metadata.flags.get("hidden", []), 1]))
    return f"""## How it was made

    python -m trainer fit {flags}

- Data: {data["file"]}, {data["rows"]} rows ({data["train_rows"]} to train, {data["test_rows"]} to test), SHA-256 `{data["sha256"]}`
- Layers, from inputs to probability: {units} units
- Encoding: inside the graph; its means and deviations come from the training rows. Fingerprint `{metadata.fingerprint}`
- Keras and the exported graph differ by at most {difference:.1e} on all rows.
- The file shows {len(metadata.background)} of the training rows, with which explanations compare, and for each measurement how the
  training rows are spread over ten bins; nothing else of single patients.
- Made {metadata.created} with {", ".join(f"{name} {number}" for name, number in metadata.libraries.items())}"""


def command_line(flags: Mapping[str, Any]) -> list[str]:
    """The flags of a run as its command takes them: `--hidden 32,16`, `--force`; what was not set is left out."""
    words: list[str] = []
    for name, value in flags.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            words += [flag, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return words
