"""Options of the commands. Importing them does not import TensorFlow, so help and completion are quick."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from trainer.recipe import Recipe

MAX_FOLDED_ROWS = 20_000  # up to here the recipe is cross-validated and all rows train


class FitOptions(Recipe):
    """Train the network, export it to ONNX, and make it the next version unless it is worse than the current one."""

    data: Path = Field(Path("trainer/data/cleveland.csv"), description="CSV or Parquet file, or a folder of them.")
    max_bad_share: float = Field(0.0, ge=0, lt=1, description="Largest share of invalid rows to leave out.")
    rejects: Path = Field(Path("rejects.csv"), description="File for the list of invalid rows, if any may be left out.")
    models: Path = Field(Path("models/heart_disease"), description="Folder of the model's versions.")
    threshold: float = Field(0.5, gt=0, lt=1, description="Least probability that is reported as heart disease.")
    test_share: float | None = Field(
        None, ge=0, lt=1, description=f"Share of rows to hold out. If not set: 0.2, or 0 up to {MAX_FOLDED_ROWS} rows."
    )
    folds: int = Field(10, ge=2, description="Folds of the cross-validation of the recipe.")
    repeats: int = Field(10, ge=0, description="Repeats of the cross-validation, each with other folds; 0: none.")
    margin: float = Field(0.005, ge=0, description="Log loss by which the new model may be worse than the current one.")
    force: bool = Field(False, description="Promote the model even if it is worse; the model file records this.")
    if_none: bool = Field(False, description="Do nothing if the folder already holds a version.")
    strategy: Literal["default", "mirrored", "multiworker"] = Field(
        "default",
        description="default: one device; mirrored: all GPUs of this host; multiworker: the hosts in TF_CONFIG.",
    )
    background: int = Field(
        32, ge=0, description="Training rows to store in the model file as the background of explanations; 0: none."
    )
    tensorboard: Path | None = Field(None, description="Folder for TensorBoard logs of the training and test loss.")


class EvaluateOptions(Recipe):
    """Cross-validate a network with these options and the baselines, or validate a trained model on a table."""

    data: Path = Field(Path("trainer/data/cleveland.csv"), description="CSV or Parquet file, or a folder of them.")
    folds: int = Field(10, ge=2, description="Folds of the cross-validation.")
    repeats: int = Field(10, ge=1, description="Repeats of the cross-validation, each with other folds.")
    threshold: float = Field(
        0.5, gt=0, lt=1, description="Threshold for accuracy and the like; with --model by default its own."
    )
    model: Path | None = Field(None, description="Folder of a version: validate this model on the table instead.")
    recalibrate: bool = Field(False, description="With --model: recalibrate the model and make it the next version.")
    force: bool = Field(False, description="With --recalibrate: also if these patients do not show that it is better.")
    out: Path | None = Field(None, description="Also write the results to this .json or .csv file.")


class GenerateOptions(BaseModel):
    """Write synthetic patients: rows of a table, drawn with replacement and jittered. OUT ends in .csv or .parquet."""

    out: Path
    rows: int = Field(1_000_000, ge=1, description="Number of rows.")
    seed: int = Field(0, ge=0, description="Seed of the random numbers.")
    data: Path = Field(Path("trainer/data/cleveland.csv"), description="Table to draw rows from.")
