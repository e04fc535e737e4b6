"""Write the model card of a version as Markdown."""

from collections.abc import Mapping
from typing import Any

from patient.artefact import Metadata
from patient.encoding import layout
from patient.record import FIELDS, measurements
from trainer.cross_validation import NETWORK, CrossValidation
from trainer.linearity import LINEAR
from trainer.metrics import METRICS, interval
from trainer.randomness import BLANK
from trainer.report import tables
from trainer.report.provenance import KNOWN, Provenance
from trainer.report.tripod import tripod

CROSS_VALIDATED = "(cross-validated)"  # suffix of metrics of the recipe rather than of the shipped weights


def card(metadata: Metadata, difference: float, validation: CrossValidation | None = None) -> str:
    """Write the card; its `{version}` is a placeholder for the version's number.

    difference: the largest between Keras and ONNX Runtime on the training data
    validation: without a cross-validation the card has no plots, and says that none was run
    """
    known = KNOWN.get(metadata.data["sha256"], Provenance())
    parts = [_facts(metadata, validation, known), USE, _data(validation, known)]
    parts += [_results(validation, metadata.threshold)] if validation else [NOT_VALIDATED]
    parts += [_form(metadata), _this_model(metadata), _limits(metadata, known), _made(metadata, difference)]
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
    return "## Model facts\n\n" + tables.table(["", ""], rows).replace("---:", "---")


def _performance(metadata: Metadata, validation: CrossValidation) -> str:
    target, network = validation.target, validation.probability[NETWORK]
    rate = {m: interval(target, network, m, metadata.threshold) for m in ("sensitivity", "specificity", "auc")}
    found, cleared = (
        f"{100 * r.value:.0f} of 100 {who} (95 % interval {100 * r.low:.0f} to {100 * r.high:.0f})"
        for r, who in ((rate["sensitivity"], "patients with disease"), (rate["specificity"], "patients without"))
    )
    text = f"At the threshold {metadata.threshold:g} it is positive for {found} and negative for {cleared}. AUC {tables.show(rate['auc'], digits=2)}."
    if tables.REFERENCE in validation.probability:
        gap = interval(target, network, reference=validation.probability[tables.REFERENCE])
        verdict = "better than" if gap.high < 0 else "worse than" if gap.low > 0 else "not distinguishable from"
        text += f" By log loss it is {verdict} {tables.REFERENCE} with the same blanking on these patients."
    return text + " Performance on patients from elsewhere is unknown."


def _demographics(validation: CrossValidation) -> str:
    ages, men = validation.rows[:, FIELDS.index("age")], validation.rows[:, FIELDS.index("sex")].mean()
    return f" Aged {ages.min():.0f} to {ages.max():.0f}, {100 * men:.0f} % men, {100 * validation.target.mean():.0f} % diseased."


def _data(validation: CrossValidation | None, known: Provenance) -> str:
    text = f"## Data\n\n{known.who}. Outcome: {known.outcome}.\n\nSource: {known.source}. {known.notes}".rstrip()
    if validation:
        text += f"\n\n{tables.patient_table(validation)}\n\nNumbers: mean ± standard deviation. Shares are of the patients with a value."
    return text


def _results(validation: CrossValidation, threshold: float) -> str:
    """Write the sections from Scores to Loss surface as Markdown; they link the files of plots.figures."""
    repeats, patients = validation.probability[NETWORK].shape
    differences = tables.difference_table(validation)
    compared = f"""
### Compared with {tables.REFERENCE}

{differences}

Model minus {tables.REFERENCE}, which is fitted to the same blanked rows as the network, on the same patients: below 0 is better for log loss and Brier score, above 0 for AUC. In
brackets: 95 % interval of a bootstrap over patients. If it contains 0, these patients do not show which model is better.
""" if differences else ""  # fmt: skip
    missing = f"""
### Missing values

{tables.missing_table(validation)}

Log loss (nats, lower is better) when these measurements of the held-out patients are missing. For the number of missing
values in the data see Data.
""" if validation.missing else ""  # fmt: skip
    return f"""## Scores

{tables.score_table(validation, threshold)}

Out of fold: each of the {patients} patients is predicted by models that were fitted without that patient, in each of {repeats}
repeats of a cross-validation with different folds. ± is the standard deviation over the repeats, that is, over splits. The
uncertainty over patients is larger: see the intervals below. Log loss in nats; ECE over 10 bins; accuracy, sensitivity and
specificity at the threshold {threshold:g}.
{compared}
### Groups of patients

{tables.group_table(validation, threshold)}

The network, mean over the repeats, with 95 % intervals of a bootstrap over the patients of the group. Overlapping intervals
neither show a difference nor rule one out. With one threshold for all, sensitivity is lower and specificity higher in groups
in which the disease is rarer.

### ROC curve

![ROC curve with its area](roc.png)

All repeats together, with equal weight for every patient. The area is the mean over the repeats. Band and brackets: 95 %
intervals of a bootstrap over patients.

### Calibration

![Observed share of disease against predicted probability](calibration.png)

All repeats together, ten groups of about equal size; bars are 95 % intervals of a bootstrap over patients. Below:
histogram of the predictions for diseased and healthy patients (mean over the repeats).

### Threshold

![Confusion matrix at the threshold](confusion.png)

Mean over the repeats, rounded to whole patients. {threshold:g} is the right threshold if missing a patient with disease is
{_harm(threshold)} as a false positive.

![Sensitivity and specificity over the threshold](thresholds.png)

All repeats together; bands are 95 % intervals of a bootstrap over patients.
{missing}
### Learning curves

![Log loss over the epochs](learning_curves.png)

Mean over one fold of each repeat, after every epoch, without dropout or blanking.

### Effect of each measurement

![Partial dependence of the prediction on each field](partial_dependence.png)

The shipped network's mean prediction over all patients if each of them had this value, with all other values unchanged. Numbers
range from their 1st to their 99th percentile; grey bars are a histogram of the patients. A hollow dot is a measurement that was not
taken. The plot shows how the model behaves, not what causes disease; some of the averaged combinations do not occur.

### Loss surface

![Log loss around the fitted weights](loss_surface.png)

Log loss of the data, without the penalty, when the shipped network's weights move along two seeded random directions. A step of 1
has the norm of the weights of each unit (filter normalisation, Li and others 2018). A wide, smooth minimum is desirable; this is
only two of many directions."""


def _harm(threshold: float) -> str:
    """How bad missing a patient with disease must be, relative to a false positive, for this threshold to be right."""
    ratio = f"{(1 - threshold) / threshold:.2g}"
    return "as bad" if ratio == "1" else f"{ratio} times as bad"


def _form(metadata: Metadata) -> str:
    """Say what kind of function the network is, with its coefficients if it is a logistic regression."""
    trained, domain = metadata.linearity["training"], metadata.linearity["domain"]
    rows = [
        [name, f"{of['rows']:,}", f"{of['switching']:.0%}".replace("%", " %"), f"{of['percentile_99']:.1g}", f"{of['largest']:.1g}"]
        for name, of in (("training rows", trained), ("made-up rows all over the valid domain", domain))
    ]  # fmt: skip
    gaps = tables.table(
        ["", "rows", "units that switch", "99th percentile of the difference", "largest difference"], rows
    )
    if max(trained["largest"], domain["largest"]) > LINEAR:
        said, form = (
            "bends: it is **not a logistic regression**. The effect of one measurement depends on the others.",
            "",
        )
    else:
        said = """does not bend: **it is a logistic regression**. Its log-odds are a sum of the encoded measurements,
each times a coefficient, and a constant. So a change of one measurement moves the log-odds of all patients by the same amount; in
plots of partial dependence the curves of the numbers are logistic curves; and around the fitted weights the loss has the single bowl
of a logistic regression."""
        form = f"""

The probability is 1 / (1 + exp(-log-odds)), and the log-odds are {metadata.linearity["constant"]:.3f} plus, for each measurement that was taken:

{_coefficients(metadata)}"""
    return f"""## What the network is

This network {said}

Differences in probability between the network and the best linear form of its inputs; up to {LINEAR:g} it counts as linear:

{gaps}{form}"""


def _coefficients(metadata: Metadata) -> str:
    found, scales = metadata.linearity["coefficients"], metadata.linearity["standardisation"]
    rows = []
    for field in measurements():
        if field.codes:
            rows += [
                [f"{field.title}: {label}", f"{found[f'{field.name} = {code}']:+.3f}"]
                for code, label in field.codes.items()
            ]
        else:
            mean, std = scales[field.name]
            rows.append([f"({field.title} - {mean:.2f} {field.unit}) / {std:.2f}", f"{found[field.name]:+.3f} times"])
    return tables.table(["", "log-odds"], rows)


def _this_model(metadata: Metadata) -> str:
    data, flags, promotion = metadata.data, metadata.flags, metadata.promotion
    rows = [
        [part, *(f"{found[name]:.3f}" if name in found else "" for name in METRICS)]
        for part, found in metadata.metrics.items()
        if not part.endswith(CROSS_VALIDATED)
    ]
    text = f"""## This model

{tables.table(["", *METRICS.values()], rows)}

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
        "The recipe was chosen on the Cleveland data, so its scores there are optimistic by an amount that was not measured.",
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
