"""A candidate becomes a version only if it is no worse, by more than the margin, than the version that serves."""

from pathlib import Path

import numpy as np
import pytest

from patient.artefact import PIN, ArtefactError
from tests.conftest import MODELS
from trainer.cross_validation import cross_validate, stratified_folds
from trainer.dataset import Dataset
from trainer.promote import Comparison, ExportedModel, compare_models, compare_recipes, recipe_of, serving
from trainer.recipe import Recipe


def silent(_name: str, _done: int, _total: int) -> None:
    """Ignore the progress."""


@pytest.mark.parametrize(("candidate", "refused"), [(0.36, False), (0.375, False), (0.376, True), (0.5, True)])
def test_worse_by_more_than_the_margin_is_refused_with_the_number(candidate: float, refused: bool) -> None:
    """A little worse may be noise; more is not taken."""
    refusal = Comparison("1", candidate, 0.37, 0.0050001, "303 rows").refusal
    assert bool(refusal) == refused
    if refusal:
        assert f"{candidate:.4f}" in refusal
        assert "0.3700" in refusal


def test_recipes_are_compared_on_the_same_folds(cleveland: Dataset) -> None:
    """A candidate made by the serving version's own recipe is exactly as good."""
    model = ExportedModel(MODELS / "1/model.onnx")
    model.metadata.flags["epochs"] = 10
    folds = stratified_folds(cleveland.target, 1, 3, 0)
    same = cross_validate(cleveland.rows, cleveland.target, recipe_of(model.metadata), folds, silent)
    comparison = compare_recipes(model, cleveland.rows, cleveland.target, same, folds, 0.0, silent)
    assert comparison.candidate == comparison.serving
    assert comparison.refusal is None
    assert "1 x 3 folds" in comparison.rows


def test_what_an_old_trainer_did_not_know_is_off() -> None:
    """Version 1 was made without blanking and with biases of 0; its recipe stays that."""
    recipe = recipe_of(ExportedModel(MODELS / "1/model.onnx").metadata)
    assert (recipe.blank, recipe.bias, recipe.dropout) == (0, 0, 0.2)


def test_models_are_compared_on_held_out_rows(cleveland: Dataset) -> None:
    """Where there are too many rows for folds, the serving version itself is asked."""
    model = ExportedModel(MODELS / "1/model.onnx")
    own = model.predict(cleveland.rows)
    assert compare_models(model, cleveland.rows, cleveland.target, own, 0).refusal is None
    coin = np.full(303, 0.5, np.float32)
    assert "303 held-out rows" in str(compare_models(model, cleveland.rows, cleveland.target, coin, 0.005).refusal)


def test_the_serving_version_is_the_highest(tmp_path: Path) -> None:
    """Or none, where there is none; and one that cannot be read is an error, not a pass."""
    found = serving(MODELS)
    assert found is not None
    assert found.metadata.version == max((f.name for f in MODELS.iterdir() if f.name.isdecimal()), key=int)
    assert serving(tmp_path) is None
    (tmp_path / "1").mkdir()
    (tmp_path / "1/model.onnx").write_bytes(b"garbage")
    with pytest.raises(ArtefactError, match=r"1/model\.onnx"):
        serving(tmp_path)
    with pytest.raises(ArtefactError, match="No such file"):
        ExportedModel(tmp_path / "nowhere.onnx")


def test_the_pinned_version_is_the_one_that_serves(tmp_path: Path) -> None:
    """Who went back to an older one compares with that."""
    for version in ("1", "2"):
        (tmp_path / version).symlink_to(MODELS / version)
    (tmp_path / PIN).write_text("1\n")
    found = serving(tmp_path)
    assert found is not None
    assert found.metadata.version == "1"
    (tmp_path / PIN).write_text("the first")
    with pytest.raises(ArtefactError, match="serve: it must hold the number"):
        serving(tmp_path)


def test_a_recipe_survives_the_model_file() -> None:
    """What made a version can be made again."""
    model = ExportedModel(MODELS / "1/model.onnx")
    recipe = Recipe(hidden=[4, 2], blank=0.3, blank_fields=["ca"], bias=1)
    model.metadata.flags = recipe.model_dump(mode="json")
    assert recipe_of(model.metadata) == recipe
