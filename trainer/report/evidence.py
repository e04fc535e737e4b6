"""What a cross-validation found, in the form that tables, plots and the model card read."""

from dataclasses import dataclass

from patient.encoding import Floats


@dataclass(frozen=True)
class Evidence:
    """Out-of-fold predictions of several models for the same patients on the same folds.

    rows:        float32[N,13], NaN = missing; target: float32[N] of 0 and 1
    probability: for each model by its title float32[R,N]: what it said of each patient in each of R repeats, every time
                 as a patient that it had not been fitted on. "network" is the model that is shipped.
    learning:    float32[2,E]: the network's training and held-out log loss after each epoch, mean over the folds
    missing:     for each set of fields that the held-out rows lack ("nothing", "ca, thal", ...) each model's log loss
    """

    rows: Floats
    target: Floats
    probability: dict[str, Floats]
    learning: Floats
    missing: dict[str, dict[str, float]]
