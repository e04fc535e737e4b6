"""Answer the items of TRIPOD+AI (Collins and others, BMJ 2024;385:e078378), whose names are shortened here."""

from patient.artefact import Metadata
from trainer.cross_validation import CrossValidation
from trainer.report.provenance import Provenance
from trainer.report.tables import table

NOT = "not applicable: "


def tripod(metadata: Metadata, validation: CrossValidation | None, known: Provenance) -> str:
    data = metadata.data
    validated = "cross-validation" if validation else "one held-out part"
    unknown, counts = "unknown: no cross-validation was run", f"{data['rows']} patients"
    if validation:
        counts = f"{validation.target.sum():.0f} diseased of {len(validation.target)}"
    plots = "see Calibration, ROC, Threshold" if validation else unknown
    groups = "see Groups of patients" if validation else unknown
    items = {
        "1 title": "see Model facts: development with internal validation; diagnosis",
        "2 abstract": "see Model facts",
        "3a context, rationale, earlier models": "diagnostic; for teaching, and as an example of a service. Earlier models: Detrano and others (1989), and the table of scores",
        "3b target population, purpose, users": "see Intended use: not for use in care",
        "3c known inequalities in health": "coronary disease is under-diagnosed and under-studied in women and ethnic minorities; the data cannot show it",
        "4 objectives": "development, internal validation, comparison with simpler models",
        "5a source of data, representativeness": f"{known.source}. No evidence that they represent today's patients",
        "5b dates": known.dates,
        "6a setting": known.setting,
        "6b eligibility": known.eligibility,
        "6c treatments": "unknown: not in the table",
        "7 preparation of data, quality checks": "every cell is checked against the range or the codes of its field, and invalid rows are refused or left out; the same for all groups",
        "8a outcome": known.outcome,
        "8b assessors of the outcome": "unknown: not in the table",
        "8c blinding of the outcome": "unknown: not in the table",
        "9a choice of predictors": "all 13 fields that the authors of the data set published; no selection",
        "9b definition of predictors": "see Data, and patient/record.py for units and codes; times of measurement are unknown",
        "9c assessors of predictors": "unknown: not in the table",
        "10 sample size": f"all available patients: {data['rows']}; no calculation was made",
        "11 missing data": "rows with missing values were kept. A missing number counts as the training rows' mean, a missing category as none of its codes",
        "12a use of the data": f"{validated}; {data['train_rows']} rows fit the shipped network, {data['test_rows']} are held out",
        "12b handling of predictors": "numbers standardised, codes one-hot, inside the graph; no other transformation",
        "12c type of model, tuning, validation": f"neural network; see How it was made. The recipe's defaults were chosen on the Cleveland data before this run, so its scores there are optimistic by an amount that was not measured. Internal validation: {validated}",
        "12d heterogeneity between clusters": NOT + "the table names no hospitals",
        "12e measures and plots": "log loss, AUC, accuracy, Brier score, ECE, sensitivity, specificity; " + plots,
        "12f model updating": "none",
        "12g how predictions are calculated": "the ONNX file next to this card; `POST /predict` of the service",
        "13 class imbalance": "no correction",
        "14 fairness": "measured, with no correction; " + groups,
        "15 output and threshold": f"a probability; the threshold {metadata.threshold:g} is a default, not based on weighing harms",
        "16 differences between development and evaluation data": "the same source: no external validation",
        "17 ethical approval": known.ethics,
        "18a funding": "unknown",
        "18b conflicts of interest": "unknown",
        "18c protocol": "none",
        "18d registration": "not registered",
        "18e data": known.source,
        "18f code": "this repository; How it was made has the command that repeats the run",
        "19 involvement of patients and the public": "no",
        "20a flow of participants": f"{counts}; exclusions by the authors of the data are unknown",
        "20b characteristics": "see Data" if validation else unknown,
        "20c comparison with development data": NOT + "no external data",
        "21 participants in each analysis": f"{counts}; see 12a",
        "22 full specification": "`model.onnx` holds the encoding and all weights; see What the network is",
        "23a performance with intervals, groups": f"see Scores; {groups}",
        "23b heterogeneity of performance": NOT + "see 12d",
        "24 results of updating": NOT + "see 12f",
        "25 interpretation": "see Model facts and Scores",
        "26 limitations": "see Limits",
        "27a poor or missing input": "values outside the ranges are rejected, missing ones are listed in the result; see Missing values",
        "27b interaction and expertise of users": "a user enters 13 measurements; interpreting the result requires knowledge of Limits",
        "27c next steps": "validation on current patients of other hospitals, before any other use",
    }  # fmt: skip
    return table(["item", "answer"], items.items()).replace("---:", "---")
