"""The settings of a training run."""

from patient.command_line import parse
from trainer.cli.options import EvaluateOptions, FitOptions
from trainer.recipe import Recipe


def test_the_lectures_recipe_is_one_flag() -> None:
    """It sets the defaults of the others, each of which can still be given."""
    of = parse(FitOptions, {"recipe": "lecture", "l2": "0.01"})
    assert (of.dropout, of.bias, of.blank, of.epochs, of.l2) == (0, 0, 0, 300, 0.01)
    assert parse(EvaluateOptions, {"recipe": "lecture"}).blank == 0
    assert (Recipe().blank, Recipe().l2, Recipe().bias) == (0.5, 0.008, 2)


def test_the_settings_of_a_version_are_read_again_as_they_were() -> None:
    """A later fit is compared with them."""
    of = Recipe(recipe="lecture", epochs=5)
    assert Recipe.model_validate(of.model_dump(mode="json")) == of
