"""`python -m trainer`: the commands fit, evaluate and generate. TensorFlow is imported when a command runs."""

import os
import sys
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem
from pydantic import BaseModel

from patient.artefact import ArtefactError
from patient.command_line import HELP, OrderedGroup, SettingsError, options, parse
from patient.printable import printable
from patient.suppress_stderr import suppress_stderr
from trainer.cli.options import EvaluateOptions, FitOptions, GenerateOptions


def _command(name: str, about: str, model: type[BaseModel]) -> click.Command:
    """Return the command whose options are the fields of `model`; `run` in the module of its name does the work."""

    def execute(**words: Any) -> None:
        from trainer.readers import DatasetError  # pyarrow, which help and completion do not need

        try:
            values = parse(model, words)
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow writes some lines before it reads this
            with suppress_stderr():
                module = import_module(f"trainer.cli.{name}")
            module.run(values)
        except KeyboardInterrupt:
            sys.exit("trainer: interrupted, nothing written")
        except (ArtefactError, DatasetError, SettingsError) as error:
            sys.exit(f"trainer: {printable(error)}")
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            sys.exit(printable(f"trainer: {place}{error.strerror or error}"))

    return click.Command(name, HELP, execute, options(model), help=model.__doc__, short_help=about)


class FitByDefault(OrderedGroup):
    """A group that runs `fit` if the command line names no command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        is_completing_first_word = ctx.resilient_parsing and not args
        if not is_completing_first_word and (not args or args[0] not in (*self.commands, *ctx.help_option_names)):
            args = ["fit", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):
            return self.commands["fit"].shell_complete(ctx, incomplete)
        return super().shell_complete(ctx, incomplete)


COMMANDS = [
    _command("fit", "Train the network and make it the next version.", FitOptions),
    _command("evaluate", "Cross-validate a network, or validate a trained one.", EvaluateOptions),
    _command("generate", "Write synthetic patients.", GenerateOptions),
]
ABOUT = "Train and evaluate the network."
main = OrderedGroup("trainer", COMMANDS, context_settings=HELP, help=ABOUT)
train = FitByDefault("train", COMMANDS, context_settings=HELP, help=f"{ABOUT} Without a command: fit.")

if __name__ == "__main__":
    main(prog_name="python -m trainer")
