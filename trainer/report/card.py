"""Write the model card of a version as Markdown."""

from collections.abc import Mapping
from typing import Any

from patient.artefact import Metadata
from patient.encoding import layout
from patient.record import FIELDS
from trainer.cross_validation import NETWORK, CrossValidation
from trainer.metrics import METRICS, interval
from trainer.randomness import BLANK
from trainer.report.provenance import KNOWN, Provenance
from trainer.report.results import results
from trainer.report.tables import REFERENCE, patient_table, show, table
from trainer.report.tripod import tripod

CROSS_VALIDATED = "(cross-validated)"  # suffix of metrics of the recipe rather than of the shipped weights


def card(metadata: Metadata, difference: float, validation: CrossValidation | None = None) -> str:
    """Write the card; its `{version}` is a placeholder for the version's number.

    difference: the largest between Keras and ONNX Runtime on the training data
    validation: without a cross-validation the card has no plots, and says that none was run
    """
    known = KNOWN.get(metadata.data["sha256"], Provenance())
    parts = [_facts(metadata, validation, known), USE, _data(validation, known)]
    parts += [results(validation, metadata.threshold)] if validation else [NOT_VALIDATED]
    parts += [_this_model(metadata), _limits(metadata, known), _made(metadata, difference)]
    parts += [f"{TRIPOD}\n\n{tripod(metadata, validation, known)}"]
    return "# Heart disease, version {version}\n\n" + "\n\n".join(parts) + "\n"


USE = """## Intended use

For teaching how a small network is trained, evaluated, exported and served, and for trying the service with made-up patients.

Do not use it for diagnosis, treatment, referral or reassurance; to rank people or set insurance premiums; to screen people
without symptoms; for children; or to label data for, or train, another model that does any of these. It is **not a medical
device** and has not been tested in care."""

TRIPOD = """## TRIPOD+AI

The items of the reporting guideline, shortened, each with an answer or the word unknown."""

NOT_VALIDATED = """## Scores

No cross-validation was run for this version. The performance of the recipe, its uncertainty, and the performance in groups
of patients are unknown. The scores below are all that is known."""


def _facts(metadata: Metadata, validation: CrossValidation | None, known: Provenance) -> str:
    facts = {
        "What it is": "A small neural network, trained on measurements of patients with and without heart disease. For teaching, **not a medical device**.",
        "Inputs": "13 measurements: age, sex, chest pain, blood pressure, cholesterol, blood sugar, resting ECG, the exercise test, fluoroscopy, thallium scan.",
        "What the result means": f"0.30 means that of 100 patients like this one, about 30 {known.meaning} at the time of the measurements. It is not the risk of a future event, and does not measure how severe the disease is.",
        "Performance": _performance(metadata, validation) if validation else "Uncertain: no cross-validation was run. See the scores of this model.",
        "Patients": f"{known.who}; {metadata.data['rows']} in all." + (_demographics(validation) if validation else ""),
        "Do not use it for": "Decisions about people: diagnosis, treatment, referral, reassurance. Where the disease is rarer than among these patients the result is too high.",
        "Missing values": "Allowed for all fields but age and sex; the result lists them. A missing number counts as the average, a missing category as none of its codes. The more values are missing, the less accurate the result" + (": see Missing values." if validation and validation.missing else "."),
        "Source of the data": f"{known.source}.",
    }  # fmt: skip
    rows = ((f"**{name}**", fact) for name, fact in facts.items())
    return "## Model facts\n\n" + table(["", ""], rows).replace("---:", "---")


def _performance(metadata: Metadata, validation: CrossValidation) -> str:
    target, network = validation.target, validation.probability[NETWORK]
    rate = {m: interval(target, network, m, metadata.threshold) for m in ("sensitivity", "specificity", "auc")}
    found, cleared = (
        f"{100 * r.value:.0f} of 100 {who} (95 % interval {100 * r.low:.0f} to {100 * r.high:.0f})"
        for r, who in ((rate["sensitivity"], "patients with disease"), (rate["specificity"], "patients without"))
    )
    text = f"At the threshold {metadata.threshold:g} it is positive for {found} and negative for {cleared}. AUC {show(rate['auc'], digits=2)}."
    if REFERENCE in validation.probability:
        gap = interval(target, network, reference=validation.probability[REFERENCE])
        verdict = "better than" if gap.high < 0 else "worse than" if gap.low > 0 else "not distinguishable from"
        text += f" By log loss it is {verdict} a plain {REFERENCE} on these patients."
    return text + " Performance on patients from elsewhere is unknown."


def _demographics(validation: CrossValidation) -> str:
    ages, men = validation.rows[:, FIELDS.index("age")], validation.rows[:, FIELDS.index("sex")].mean()
    return f" Aged {ages.min():.0f} to {ages.max():.0f}, {100 * men:.0f} % men, {100 * validation.target.mean():.0f} % diseased."


def _data(validation: CrossValidation | None, known: Provenance) -> str:
    text = f"## Data\n\n{known.who}. Outcome: {known.outcome}.\n\nSource: {known.source}. {known.notes}".rstrip()
    if validation:
        text += f"\n\n{patient_table(validation)}\n\nNumbers: mean ± standard deviation. Shares are of the patients with a value."
    return text


def _this_model(metadata: Metadata) -> str:
    data, flags, promotion = metadata.data, metadata.flags, metadata.promotion
    rows = [
        [part, *(f"{found[name]:.3f}" if name in found else "" for name in METRICS)]
        for part, found in metadata.metrics.items()
        if not part.endswith(CROSS_VALIDATED)
    ]
    text = f"""## This model

{table(["", *METRICS.values()], rows)}

`train`: the {data["train_rows"]} rows that it was fitted on; this score is optimistic."""
    if data["test_rows"]:
        text += f" `test`: {data['test_rows']} rows that were not used for training. `majority`: the training rows' share of disease, predicted for all of them."
    if flags.get("blank"):
        text += f"""

In every epoch {flags["blank"]:.0%} of the training rows lost whole measurements: each of {", ".join(flags["blank_fields"])}
with a probability of {BLANK}. So the network learnt to predict without them."""
    if "serving" in promotion:
        text += f"""

Before promotion its log loss was compared with that of version {promotion["version"]}: {promotion["candidate"]:.4f} against
{promotion["serving"]:.4f} ({promotion["rows"]}). The margin was {promotion["margin"]:g}."""
    return text


def _limits(metadata: Metadata, known: Provenance) -> str:
    limits = [
        *known.limits,
        "No external validation: all scores are for patients from the same source.",
        "The recipe was chosen on the Cleveland data, so its scores there are slightly optimistic.",
    ]
    if held_out := metadata.data["test_rows"]:
        limits.append(f"{held_out} held-out patients are too few to distinguish good models or to find rare errors.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _made(metadata: Metadata, difference: float) -> str:
    data = metadata.data
    units = ", ".join(map(str, [layout().width, *metadata.flags.get("hidden", []), 1]))
    return f"""## How it was made

    python -m trainer fit {" ".join(command_line(metadata.flags))}

- Data: {data["file"]}, {data["rows"]} rows ({data["train_rows"]} to train, {data["test_rows"]} to test), SHA-256 `{data["sha256"]}`
- Layers, from inputs to probability: {units} units
- Encoding: inside the graph, with means and deviations of the training rows. Fingerprint `{metadata.fingerprint}`
- The folder of the versions is a model of a Triton repository. Only Heart's own service rejects values outside the ranges.
- Keras and the exported graph differ by at most {difference:.1e} on all rows.
- The file contains {len(metadata.background)} training rows as the reference of explanations, and for each measurement the distribution of
  the training rows over ten bins; no other data of single patients.
- Made {metadata.created} with {", ".join(f"{name} {number}" for name, number in metadata.libraries.items())}"""


def command_line(flags: Mapping[str, Any]) -> list[str]:
    """Format the flags of a run for its command line: `--hidden 32,16`, `--force`; unset flags are left out."""
    arguments: list[str] = []
    for name, value in flags.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            arguments.append(flag)
        elif value is not None and value is not False:
            arguments += [flag, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return arguments
