"""The model card says what is known of a version, and of the rest that it is unknown."""

import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest

from patient.artefact import Metadata
from patient.record import measurements
from tests.conftest import CLEVELAND
from tests.patient.test_artefact import metadata
from trainer.cross_validation import CrossValidation
from trainer.linearity import input_names
from trainer.metrics import Interval
from trainer.report.card import card
from trainer.report.provenance import KNOWN
from trainer.report.tables import difference_table, group_table, groups, patient_table, show

SHA256 = hashlib.sha256(CLEVELAND.read_bytes()).hexdigest()
PARTS = {3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc", 23: "ab", 27: "abc"}
ITEMS = [f"{number}{part}" for number in range(1, 28) for part in PARTS.get(number, [""])]


def made(largest: float = 1e-6, **changes: object) -> Metadata:
    """The metadata of a network that was fitted on Cleveland."""
    data = {"file": "cleveland.csv", "sha256": SHA256, "rows": 303, "train_rows": 242, "test_rows": 61} | changes
    flags = {"hidden": [16], "learning_rate": 0.001, "time_limit": None}
    gap = {"rows": 303, "switching": 0.0, "largest": largest, "percentile_99": 1e-6}
    linearity = {
        "training": gap,
        "domain": gap,
        "r2": 1.0,
        "coefficients": dict.fromkeys(input_names(), 0.5),
        "constant": -0.25,
    }
    linearity["standardisation"] = dict.fromkeys(("age", "trestbps", "chol", "thalach", "oldpeak"), (54.4, 9.0))
    found = {"data": data, "flags": flags, "linearity": linearity}
    return metadata(**found, metrics={"test": {"log_loss": 0.372}}, libraries={"keras": "3"})


def test_the_card_says_whether_the_network_bends(text: str) -> None:
    """A logistic regression's coefficients are printed, those of another network are not."""
    assert "**it is a logistic regression**" in text
    assert "the log-odds are -0.250 plus" in text
    assert "| (Age - 54.40 years) / 9.00 | +0.500 times |" in text
    assert "| Sex: male | +0.500 |" in text
    bent = card(made(largest=0.01), 0)
    assert "**not a logistic regression**" in bent
    assert "+0.500" not in bent


@pytest.fixture(scope="module")
def text(validation: CrossValidation) -> str:
    """The card with all that there can be."""
    return card(made(), 1.2e-7, validation)


def test_the_facts_come_first(text: str) -> None:
    """Then use, data, scores, this network, limits, making, and the reporting guideline."""
    assert text.startswith("# Heart disease, version {version}\n")
    assert re.findall(r"^## (.+)", text, re.M) == [
        "Model facts", "Intended use", "Data", "Scores", "What the network is", "This model", "Limits",
        "How it was made", "TRIPOD+AI",
    ]  # fmt: skip
    assert text.replace("{version}", "").count("{") == 0


def test_the_card_links_exactly_the_plots_that_are_drawn(text: str, drawn: dict[str, bytes]) -> None:
    """No link without its file, no file that is not shown."""
    assert re.findall(r"\]\((\S+\.png)\)", text) == [
        "roc.png", "calibration.png", "confusion.png", "thresholds.png", "learning_curves.png",
        "partial_dependence.png", "loss_surface.png",
    ]  # fmt: skip
    assert set(re.findall(r"\]\((\S+\.png)\)", text)) == set(drawn)


def test_every_table_has_equally_many_cells_in_all_rows(text: str) -> None:
    """All rows of a Markdown table have as many cells as its header."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_the_facts_state_performance_and_patients(text: str) -> None:
    """In natural frequencies, with intervals, and against the simplest model."""
    page = text.partition("## Intended use")[0]
    for words in (
        "95 % interval", "of 100 patients with disease", "logistic regression with the same blanking",
        "not a medical device", "Aged 29 to 77, 68 % men, 46 % diseased", "Cleveland Clinic",
        "narrowed by more than 50 %",
    ):  # fmt: skip
        assert words in page


def test_how_it_was_made_can_be_repeated(text: str) -> None:
    """The command, the digest, the fingerprint, the parity, the libraries."""
    for words in ("fit --hidden 16 --learning-rate 0.001\n", SHA256, made().fingerprint, "1.2e-07", "keras 3"):
        assert words in text
    assert "time-limit" not in text


def test_every_item_of_the_reporting_guideline_has_an_answer(text: str) -> None:
    """All 27 and their parts, in order; what nobody can answer is said to be unknown."""
    answers = re.findall(r"^\| (\d+[a-g]?) [^|]+\| ([^|]+) \|$", text.partition("## TRIPOD+AI")[2], re.M)
    assert [item for item, _ in answers] == ITEMS
    assert dict(answers)["18a"] == "unknown"


def test_the_card_of_other_data_does_not_describe_cleveland(validation: CrossValidation) -> None:
    """What is known of one file is not said of another."""
    text = card(made(sha256="0" * 64, file="mine.csv"), 0, validation)
    for words in ("1981", "Detrano (1988)", "angiogra", "heart.csv"):
        assert words not in text
    assert "Unknown to the trainer" in text


def test_the_digest_that_is_known_is_that_of_the_file() -> None:
    """Otherwise the card would not name the source."""
    assert "10.24432/C52P4X" in KNOWN[SHA256].source


def test_without_a_cross_validation_the_card_says_so() -> None:
    """No plots, no table of groups, and no claim about them."""
    text = card(made(test_rows=0), 0)
    assert ".png" not in text
    assert "No cross-validation was run" in text
    assert "held-out patients" not in text


def test_a_card_needs_neither_a_reference_nor_a_missing_table(validation: CrossValidation) -> None:
    """Its sections are left out."""
    alone = replace(validation, probability={"network": validation.probability["network"]}, missing={})
    text = card(made(), 0, alone)
    assert difference_table(alone) == ""
    for words in ("Compared with", "### Missing values", "than logistic regression"):
        assert words not in text


def test_everybody_is_in_one_sex_and_one_age_group(validation: CrossValidation) -> None:
    """97 women and 206 men; ages at the borders fall into the older group."""
    found = groups(validation.rows)
    assert {name: int(members.sum()) for name, members in found.items()} == {
        "everybody": 303, "female": 97, "male": 206,
        "under 50 years": 87, "50 to 59 years": 125, "60 years and older": 91,
    }  # fmt: skip
    assert np.all(found["female"] ^ found["male"])


def test_an_undefined_metric_of_a_group_is_unknown(validation: CrossValidation) -> None:
    """Nobody old and diseased: no sensitivity for them, and no row for a group without patients."""
    young = validation.rows[:, 0] < 50
    some = replace(
        validation, rows=validation.rows[young], target=np.zeros(young.sum(), np.float32),
        probability={"network": validation.probability["network"][:, young]},
    )  # fmt: skip
    lines = group_table(some, 0.5).splitlines()
    assert not any(line.startswith("| 60 years") for line in lines)
    assert "| unknown | unknown |" in next(line for line in lines if line.startswith("| under 50"))
    assert show(Interval(0.5, 0.25, 0.75), digits=2, sign="+") == "+0.50 (+0.25 to +0.75)"


def test_the_patient_table_has_all_fields(validation: CrossValidation) -> None:
    """Titles, units, labels, and how many are missing."""
    text = patient_table(validation)
    for field in measurements():
        assert f"| {field.title}" in text
    assert "| Number of major vessels |  |  | 4 |" in text
    assert "| - asymptomatic | 39 (24 %) | 105 (76 %) |" in text
