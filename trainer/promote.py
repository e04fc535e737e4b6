"""Decide whether a candidate may replace the serving version."""

from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from patient.artefact import FILE, INPUT, OUTPUT, ArtefactError, Metadata, pinned, versions
from patient.encoding import Floats
from trainer.cross_validation import Folds, OnProgress, cross_validate
from trainer.metrics import score
from trainer.recipe import Recipe


@dataclass(frozen=True)
class Comparison:
    """Log loss of the candidate and of the serving version on the same rows."""

    version: str  # the serving one
    candidate: float
    serving: float
    margin: float
    rows: str  # describes the rows

    @property
    def refusal(self) -> str | None:
        """The reason against promotion, with the numbers; None if there is none."""
        worse = self.candidate - self.serving
        if worse <= self.margin:
            return None
        than = f"{self.candidate:.4f} is worse than version {self.version}'s {self.serving:.4f} by {worse:.4f}"
        return f"its log loss of {than}, allowed is {self.margin:g} ({self.rows})"


class ExportedModel:
    """A model file in ONNX Runtime, as the service runs it."""

    def __init__(self, file: Path) -> None:
        """Raises ArtefactError for a file that this trainer did not write, or one made for other fields."""
        try:
            self.content = file.read_bytes()
            self.session = cpu_session(self.content)
            self.metadata = Metadata.from_strings(self.session.get_modelmeta().custom_metadata_map)
            self.metadata.check()
        except Exception as error:  # ONNX Runtime's own exceptions share no other base
            reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
            raise ArtefactError(f"{file}: {reason}") from None

    def predict(self, rows: Floats) -> Floats:
        """float32[N,13], NaN = missing, to float32[N] of probabilities."""
        return predict(self.session, rows)


def cpu_session(content: bytes) -> ort.InferenceSession:
    return ort.InferenceSession(content, providers=["CPUExecutionProvider"])


def predict(session: ort.InferenceSession, rows: Floats) -> Floats:
    """float32[N,13], NaN = missing, to float32[N] of probabilities."""
    probability: Floats = session.run([OUTPUT], {INPUT: rows})[0][:, 0]
    return probability


def serving(models: Path) -> ExportedModel | None:
    """Load the serving version: the pinned one, or the highest; None without versions. Raises ArtefactError."""
    version = pinned(models) or max(versions(models), default=None)
    return ExportedModel(models / str(version) / FILE) if version else None


def recipe_of(metadata: Metadata) -> Recipe:
    """The recipe that made a version; settings that are newer than the version are off."""
    return Recipe.model_validate({"bias": 0, "blank": 0} | metadata.flags)


def compare_recipes(
    model: ExportedModel,
    rows: Floats,
    target: Floats,
    candidate: Floats,
    folds: Folds,
    margin: float,
    on_progress: OnProgress,
) -> Comparison:
    """Compare `candidate` (float32[R,N], out of fold) with networks of the serving version's recipe on the same folds.

    That version's own weights cannot be compared: they were fitted on these rows.
    """
    version = model.metadata.version
    title = f"version {version}'s recipe"
    serving = cross_validate(rows, target, recipe_of(model.metadata), folds, on_progress, title)
    ours, theirs = score("log_loss", target, candidate), score("log_loss", target, serving)
    return Comparison(version, ours, theirs, margin, f"{folds.repeats} x {folds.k} folds of {len(rows)} rows")


def compare_models(model: ExportedModel, rows: Floats, target: Floats, candidate: Floats, margin: float) -> Comparison:
    """Compare `candidate` (float32[N], for held-out rows) with the serving version, which may have trained on them."""
    ours, theirs = score("log_loss", target, candidate), score("log_loss", target, model.predict(rows))
    return Comparison(model.metadata.version, ours, theirs, margin, f"{len(rows)} held-out rows")
