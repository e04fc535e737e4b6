"""The provenance of known data sets: a table itself does not hold it."""

from dataclasses import dataclass

UNKNOWN = "unknown: the trainer knows only the table"


@dataclass(frozen=True)
class Provenance:
    """Who was measured, where and when, and the source; sentences for the model card."""

    who: str = "Unknown to the trainer: the publisher of this version must say who the patients are"
    outcome: str = "`target` of the table, 1 = diseased; how it was assessed is unknown to the trainer"
    meaning: str = "had the disease"
    source: str = "unknown to the trainer"
    notes: str = ""  # a paragraph or two on the source
    dates: str = UNKNOWN
    setting: str = UNKNOWN
    eligibility: str = UNKNOWN
    ethics: str = UNKNOWN
    limits: tuple[str, ...] = (
        "Where the patients come from, and which population they represent, is unknown to the trainer.",
    )


CLEVELAND = Provenance(
    who="Patients referred for coronary angiography to the Cleveland Clinic in 1981 to 1984",
    outcome="a coronary artery narrowed by more than 50 % on the angiogram (UCI's `num` > 0)",
    meaning="had a coronary artery narrowed by more than 50 %",
    source="UCI Heart Disease, CC BY 4.0: Janosi, Steinbrunn, Pfisterer, Detrano (1988), "
    "https://doi.org/10.24432/C52P4X",
    notes="""First described by Detrano and others, *American Journal of Cardiology* 64 (1989), 304 to 310.

This is not the `heart.csv` that tutorials download. That copy has 301 of these records, four others, and
another target (83 positives instead of 139): scores on it cannot be compared with these.""",
    dates="May 1981 to September 1984; no follow-up",
    setting="One hospital in the United States, the Cleveland Clinic Foundation, to which patients were referred",
    eligibility="Referred for coronary angiography; further criteria are in Detrano and others (1989), "
    "not in the table",
    ethics="unknown from the table; its names and numbers of patients were removed before it was published",
    limits=(
        "303 patients: the uncertainty of every score is larger than the differences between good models.",
        "One clinic, forty years ago: people, tests and treatment have changed since. No evidence shows that the "
        "model is valid elsewhere, or today.",
        "Only patients referred for angiography: almost half had the disease. Where the disease is rarer, the "
        "probabilities are too high.",
        "The target is anatomy, a narrowing of more than 50 %. It is not symptoms, reduced blood flow, a heart "
        "attack, or a future event.",
        "Two thirds are men. Ethnicity, treatment and other diseases are not recorded, so differences between such "
        "groups cannot be seen.",
        "The thallium scan and fluoroscopy have much influence, and are rarely available elsewhere.",
    ),
)  # fmt: skip
KNOWN = {"dee6cc4854aeda6daf444110de51698a4f24a778ae207f409732ea191ce3a6c7": CLEVELAND}  # by SHA-256 of the table
