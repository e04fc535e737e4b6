"""What the cross-validation found: the model card's scores, groups and plots, and the files that the plots lie in."""

from patient.encoding import Floats
from trainer.report import plots
from trainer.report.effects import Predict, partial_dependence
from trainer.report.evidence import Evidence
from trainer.report.tables import REFERENCE, difference_table, group_table, missing_table, score_table


def figures(evidence: Evidence, predict: Predict, losses: Floats, threshold: float) -> dict[str, bytes]:
    """The plots that the card links, by file name.

    predict: the shipped network, float32[N,13] to float32[N]; losses: float32[S,S] of trainer.report.surface.surface
    """
    target, probability = evidence.target, evidence.probability["network"]
    return {
        "learning_curves.png": plots.learning_curves(evidence.learning),
        "roc.png": plots.roc(target, probability, threshold),
        "calibration.png": plots.calibration(target, probability),
        "confusion.png": plots.confusion(target, probability, threshold),
        "thresholds.png": plots.thresholds(target, probability, threshold),
        "partial_dependence.png": partial_dependence(predict, evidence.rows),
        "loss_surface.png": plots.loss_surface(losses),
    }


def findings(evidence: Evidence, threshold: float) -> str:
    """The sections from scores to loss surface as Markdown; links the files of `figures`."""
    repeats, patients = evidence.probability["network"].shape
    differences = difference_table(evidence)
    compared = f"""
### Compared with {REFERENCE}

{differences}

Model minus {REFERENCE}, both on the same patients: below 0 is better for log loss and Brier score, above 0 for AUC. In
brackets the 95 % interval of a bootstrap over patients; where it holds 0, these patients do not tell which is better.
""" if differences else ""  # fmt: skip
    missing = f"""
### Missing values

{missing_table(evidence)}

Log loss (nats, lower is better) when the held-out patients lack these measurements. How often a measurement is missing
in the data itself stands in the table of the patients.
""" if evidence.missing else ""  # fmt: skip
    return f"""## Scores

{score_table(evidence, threshold)}

Out of fold: each of the {patients} patients is predicted by models that were not fitted on that patient, in each of {repeats}
repeats of a cross-validation with other folds. ± is the standard deviation over the repeats: what another split would change. What
other patients would change is more: see the intervals below. Log loss in nats; ECE over 10 bins; accuracy,
sensitivity and specificity at the threshold {threshold:g}.
{compared}
### Groups of patients

{group_table(evidence, threshold)}

The network, mean over the repeats, with 95 % intervals of a bootstrap over the patients of the group. Where intervals overlap,
these patients neither show a difference nor rule it out. With one threshold for all, fewer are found and more are
cleared in a group in which disease is rarer.

### ROC curve

![ROC curve with its area](roc.png)

All repeats together: every patient counts once, with the same weight in each repeat. The area is the mean of the repeats' areas. Band
and brackets: 95 %, bootstrap over patients.

### Calibration

![Observed share of disease against predicted probability](calibration.png)

All repeats together, ten groups of about equal size; bars are 95 % intervals of a bootstrap over patients. Beneath, how many
diseased and healthy patients get which prediction (mean over the repeats).

### Threshold

![Right and wrong at the threshold](confusion.png)

Mean over the repeats, rounded to whole patients. {threshold:g} is the right threshold where missing a diseased
patient is {(1 - threshold) / threshold:.2g} times as bad as a false alarm.

![Sensitivity and specificity over the threshold](thresholds.png)

All repeats together; bands are 95 % intervals of a bootstrap over patients.
{missing}
### Learning curves

![Log loss over the epochs](learning_curves.png)

Mean over one fold of each repeat, asked after every epoch without dropout or blanking.

### Effect of each measurement

![Partial dependence of the prediction on each field](partial_dependence.png)

The shipped network's mean prediction over all patients if each of them had this value, all else as it is. Numbers run from their
1st to their 99th percentile; grey bars show where patients are. A hollow dot is a measurement that was not taken. It shows what
the model does, not what causes disease, and some combinations that it averages over do not occur.

### Loss surface

![Log loss around the found weights](loss_surface.png)

Log loss of the data, without the penalty, when the shipped network's weights move along two seeded random directions; 1 is a step
as long as the weights of each unit themselves (filter normalisation, Li and others 2018). A wide, smooth valley is
what one hopes for; two directions of many are shown."""
