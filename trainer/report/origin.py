"""What is known about where the patients of a table come from. A table says nothing of it itself."""

from dataclasses import dataclass

UNKNOWN = "unknown: the trainer knows only the table"


@dataclass(frozen=True)
class Origin:
    """Who was measured, where and when, and whom to thank; sentences for the model card."""

    who: str = "Unknown to the trainer. Whoever publishes this version must say whose patients they are"
    outcome: str = "`target` of the table, 1 = diseased; how it was assessed is unknown to the trainer"
    meaning: str = "had the disease"
    source: str = "unknown to the trainer"
    notes: str = ""  # a paragraph or two on the source
    dates: str = UNKNOWN
    setting: str = UNKNOWN
    eligibility: str = UNKNOWN
    ethics: str = UNKNOWN
    limits: tuple[str, ...] = (
        "Where the patients come from is unknown to the trainer, and so is whom they stand for.",
    )


CLEVELAND = Origin(
    who="Patients referred for coronary angiography to the Cleveland Clinic in 1981 to 1984",
    outcome="a coronary artery narrowed by more than 50 % on the angiogram (UCI's `num` > 0)",
    meaning="had a coronary artery narrowed by more than 50 %",
    source="UCI Heart Disease, CC BY 4.0: Janosi, Steinbrunn, Pfisterer, Detrano (1988), "
    "https://doi.org/10.24432/C52P4X",
    notes="""First described by Detrano and others, *American Journal of Cardiology* 64 (1989), 304 to 310.

This is not the `heart.csv` that tutorials download. That copy has 301 of these records, four of other origin, and
another target (83 positives instead of 139): scores on it cannot be compared with these.""",
    dates="May 1981 to September 1984; no follow-up",
    setting="One hospital in the United States, the Cleveland Clinic Foundation, to which patients were referred",
    eligibility="Referred for coronary angiography; further criteria are those of Detrano and others (1989), "
    "and cannot be seen in the table",
    ethics="unknown from the table; its names and numbers of patients were removed before it was published",
    limits=(
        "303 patients: every score is uncertain by more than what parts good models from each other.",
        "One clinic, forty years ago: people, tests and treatment have changed since. Nothing here shows that the "
        "model holds anywhere else, or today.",
        "Only people whom a doctor had sent to angiography: almost half were diseased. Where disease is rarer, the "
        "probabilities are too high.",
        "The target is anatomy, a narrowing of more than 50 %. It is not symptoms, not reduced flow, not an "
        "infarction, and not what happens later.",
        "Two thirds are men; ethnicity, treatment and other diseases are not recorded. Differences between groups can "
        "hide in what was not recorded.",
        "The thallium scan and fluoroscopy count much and are rarely at hand elsewhere.",
    ),
)  # fmt: skip
SHA256 = {"dee6cc4854aeda6daf444110de51698a4f24a778ae207f409732ea191ce3a6c7": CLEVELAND}


def origin(sha256: str | None) -> Origin:
    """What is known of the file with this digest."""
    return SHA256.get(sha256 or "", Origin())
