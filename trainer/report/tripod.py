"""TRIPOD+AI (Collins and others, BMJ 2024;385:e078378) item by item: where the card answers it, or that nobody can.

The items are named in our words.
"""

from patient.artefact import Metadata
from trainer.report.evidence import Evidence
from trainer.report.origin import Origin
from trainer.report.tables import table

NOT = "not applicable: "


def tripod(metadata: Metadata, evidence: Evidence | None, known: Origin) -> str:
    """The items and their answers as a Markdown table."""
    data = metadata.data
    validated = "cross-validation" if evidence else "one held-out part"
    plots = "see Calibration, ROC, Threshold" if evidence else "unknown: no cross-validation was run"
    groups = "see Groups of patients" if evidence else "unknown: no cross-validation was run"
    counts = (
        f"{evidence.target.sum():.0f} diseased of {len(evidence.target)}"
        if evidence
        else f"{data.get('rows')} patients"
    )
    items = {
        "1 title": "see Model facts: development with internal validation; diagnosis",
        "2 abstract": "see Model facts",
        "3a context, rationale, earlier models": "diagnostic; made for teaching and as an example of a service. Earlier models: Detrano and others (1989), and the table of scores",
        "3b target population, purpose, users": "see Intended use: nobody in care",
        "3c known inequalities in health": "women and ethnic groups are known to be under-diagnosed and under-studied in coronary disease; the data cannot show it",
        "4 objectives": "development, internal validation, comparison with simpler models",
        "5a source of data, representativeness": f"{known.source}. Representative of today's patients: no evidence",
        "5b dates": known.dates,
        "6a setting": known.setting,
        "6b eligibility": known.eligibility,
        "6c treatments": "unknown: not in the table",
        "7 preparation of data, quality checks": "every cell is checked against the range or the codes of its field and a faulty table is refused; the same for all groups",
        "8a outcome": known.outcome,
        "8b assessors of the outcome": "unknown: not in the table",
        "8c blinding of the outcome": "unknown: not in the table",
        "9a choice of predictors": "all 13 fields that the data set's makers published; none was selected here",
        "9b definition of predictors": "see Data, and patient/record.py for units and codes; when each was measured is unknown",
        "9c assessors of predictors": "unknown: not in the table",
        "10 sample size": f"what there was: {data.get('rows')} patients; no calculation was made before",
        "11 missing data": "no row was left out. A missing number counts as the training rows' mean, a missing code as none of the codes",
        "12a use of the data": f"{validated}; {data.get('train_rows')} rows fit the shipped network, {data.get('test_rows')} are held out",
        "12b handling of predictors": "numbers standardised, codes one-hot, inside the graph; no other transformation",
        "12c type of model, tuning, validation": f"neural network; see How it was made. The recipe's defaults were chosen on the Cleveland data before this run, so its scores there are slightly optimistic. Internal validation: {validated}",
        "12d heterogeneity between clusters": NOT + "the table names no hospitals",
        "12e measures and plots": "log loss, AUC, accuracy, Brier score, ECE, sensitivity, specificity; " + plots,
        "12f model updating": "none",
        "12g how predictions are calculated": "the ONNX file beside this card; `POST /predict` of the service",
        "13 class imbalance": "nothing was done about it",
        "14 fairness": "nothing was done beyond measuring; " + groups,
        "15 output and threshold": f"a probability; the threshold {metadata.threshold:g} is a default and rests on no weighing of harms",
        "16 development against evaluation data": "the same source: no external validation",
        "17 ethical approval": known.ethics,
        "18a funding": "unknown",
        "18b conflicts of interest": "unknown",
        "18c protocol": "none was written",
        "18d registration": "not registered",
        "18e data": known.source,
        "18f code": "this repository; the command in How it was made repeats the run",
        "19 patients and public involved": "no",
        "20a flow of participants": f"{counts}; whom the makers of the data left out is unknown",
        "20b characteristics": "see Data" if evidence else "unknown: no cross-validation was run",
        "20c comparison with development data": NOT + "no external data",
        "21 participants in each analysis": f"{counts}; see 12a",
        "22 full specification": "`model.onnx` holds the encoding and all weights",
        "23a performance with intervals, groups": f"see Scores; {groups}",
        "23b heterogeneity of performance": NOT + "see 12d",
        "24 results of updating": NOT + "see 12f",
        "25 interpretation": "see Model facts and Scores",
        "26 limitations": "see Limits",
        "27a poor or missing input": "values outside the ranges are refused, missing ones are named in the answer; see Missing values",
        "27b interaction and expertise of users": "somebody enters 13 measurements as they are; reading the number takes knowledge of Limits",
        "27c next steps": "validation on patients of other hospitals and of today, before any other use",
    }  # fmt: skip
    return table(["item", "answer"], items.items()).replace("---:", "---")
