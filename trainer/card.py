"""The model card: what a person should know before trusting this version."""

from patient.artefact import Metadata


def card(metadata: Metadata, difference: float) -> str:
    """The card of a version as Markdown; `{version}` in it stands for the version's number.

    difference: the largest between Keras and ONNX Runtime on the training data
    """
    names = ("log_loss", "auc", "accuracy", "brier", "ece")
    table = [
        "| | log loss | AUC | accuracy | Brier score | ECE |",
        "|---|---|---|---|---|---|",
        *(
            f"| {part} | {' | '.join(f'{scores[name]:.3f}' for name in names)} |"
            for part, scores in metadata.metrics.items()
        ),
    ]
    flags = " ".join(
        f"--{name.replace('_', '-')} {','.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in metadata.flags.items()
        if value is not None
    )
    data = metadata.data
    return f"""# Heart disease, version {{version}}

The probability that a patient has heart disease (a coronary artery narrowed by more than 50 %), from 13 measurements. A
teaching model on {data["rows"]} patients of one clinic from the 1980s: **not a medical device, not for decisions about people**.

## Scores

{chr(10).join(table)}

Log loss in nats. `train` are the rows that the network was fitted on, `test` rows that it never saw, `majority` the constant
prediction of the training rows' share of disease, on the test rows. With {data["test_rows"]} test rows the scores are rough.

## How it was made

    python -m trainer fit {flags}

- Data: {data["file"]}, {data["rows"]} rows ({data["train_rows"]} to train, {data["test_rows"]} to test), SHA-256 `{data["sha256"]}`
- Encoding: inside the graph; its means and deviations come from the training rows. Fingerprint `{metadata.fingerprint}`
- Keras and the exported graph differ by at most {difference:.1e} on all rows.
- {", ".join(f"{name} {number}" for name, number in metadata.libraries.items())}

UCI Heart Disease, CC BY 4.0: Janosi, Steinbrunn, Pfisterer, Detrano (1988), https://doi.org/10.24432/C52P4X. Not the
copy that tutorials use, which has another target.
"""
