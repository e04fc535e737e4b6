"""Whether a candidate may become the version that serves."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from patient.artefact import FILE, INPUT, OUTPUT, ArtefactError, Metadata, pinned, versions
from patient.encoding import Floats
from trainer.crossval import Folds, Tick, cross_validate, held_out, mean_loss
from trainer.evaluate import log_loss
from trainer.noise import Recipe


@dataclass(frozen=True)
class Comparison:
    """Candidate and serving version on the same rows, by log loss."""

    version: str  # that serves
    candidate: float
    serving: float
    margin: float
    rows: str  # on which rows

    @property
    def refusal(self) -> str | None:
        """What speaks against promotion, with the number that failed."""
        if self.candidate - self.serving <= self.margin:
            return None
        worse = self.candidate - self.serving
        than = f"{self.candidate:.4f} is worse than version {self.version}'s {self.serving:.4f} by {worse:.4f}"
        return f"its log loss of {than}, allowed is {self.margin:g} ({self.rows})"

    def as_metadata(self) -> dict[str, Any]:
        """For the model file."""
        return asdict(self)


class Finished:
    """A model file, as the service would run it: float32[N,13], NaN = missing, to float32[N] of probabilities."""

    def __init__(self, file: Path) -> None:
        """Raises ArtefactError for a file that is not one of ours, or made for other fields."""
        try:
            self.content = file.read_bytes()
            self.session = ort.InferenceSession(self.content, providers=["CPUExecutionProvider"])
            self.metadata = Metadata.from_strings(self.session.get_modelmeta().custom_metadata_map)
            self.metadata.check()
        except OSError as error:
            raise ArtefactError(f"{file}: {error.strerror}") from None
        except ArtefactError as error:
            raise ArtefactError(f"{file}: {error}") from None
        except Exception as error:  # ONNX Runtime's own exceptions share no other base
            raise ArtefactError(f"{file}: {str(error).splitlines()[0]}") from None

    def predict(self, rows: Floats) -> Floats:
        """The probabilities."""
        probability: Floats = self.session.run([OUTPUT], {INPUT: rows})[0][:, 0]
        return probability


def serving(models: Path) -> Finished | None:
    """The version that serves, if there is one: the pinned, or the highest. Raises ArtefactError."""
    version = pinned(models) or max(versions(models), default=None)
    return Finished(models / str(version) / FILE) if version else None


def recipe_of(metadata: Metadata) -> Recipe:
    """The recipe that made a version; what its trainer did not know yet is off."""
    return Recipe.model_validate({"bias": 0, "blank": 0} | metadata.flags)


def compare_recipes(
    model: Finished, rows: Floats, target: Floats, candidate: Floats, folds: Folds, margin: float, tick: Tick
) -> Comparison:
    """On the same folds: `candidate` (float32[R,N], out of fold) against networks made by the serving version's recipe.

    Not against that version's own weights, which have seen these rows.
    """
    recipe = recipe_of(model.metadata)
    name = f"version {model.metadata.version}'s recipe"
    theirs = held_out(cross_validate(rows, target, recipe, folds, tick, name), rows, folds)
    where = f"{folds.repeats} x {folds.k} folds of {len(rows)} rows"
    return Comparison(model.metadata.version, mean_loss(target, candidate), mean_loss(target, theirs), margin, where)


def compare_models(model: Finished, rows: Floats, target: Floats, candidate: Floats, margin: float) -> Comparison:
    """On held-out rows: `candidate` (float32[N]) against the serving version itself, which may have seen them."""
    ours, theirs = log_loss(target, candidate), log_loss(target, model.predict(rows))
    return Comparison(model.metadata.version, ours, theirs, margin, f"{len(rows)} held-out rows")
