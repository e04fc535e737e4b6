"""Write the model card's sections on the cross-validation."""

from trainer.cross_validation import NETWORK, CrossValidation
from trainer.report.tables import REFERENCE, difference_table, group_table, missing_table, score_table


def results(validation: CrossValidation, threshold: float) -> str:
    """Write the sections from Scores to Loss surface as Markdown; they link the files of plots.figures."""
    repeats, patients = validation.probability[NETWORK].shape
    differences = difference_table(validation)
    compared = f"""
### Compared with {REFERENCE}

{differences}

Model minus {REFERENCE}, on the same patients: below 0 is better for log loss and Brier score, above 0 for AUC. In
brackets: 95 % interval of a bootstrap over patients. If it contains 0, these patients do not show which model is better.
""" if differences else ""  # fmt: skip
    missing = f"""
### Missing values

{missing_table(validation)}

Log loss (nats, lower is better) when these measurements of the held-out patients are missing. For the number of missing
values in the data see Data.
""" if validation.missing else ""  # fmt: skip
    return f"""## Scores

{score_table(validation, threshold)}

Out of fold: each of the {patients} patients is predicted by models that were fitted without that patient, in each of {repeats}
repeats of a cross-validation with different folds. ± is the standard deviation over the repeats, that is, over splits. The
uncertainty over patients is larger: see the intervals below. Log loss in nats; ECE over 10 bins; accuracy, sensitivity and
specificity at the threshold {threshold:g}.
{compared}
### Groups of patients

{group_table(validation, threshold)}

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
