"""The command `heart`: everything that the service and the trainer do. Each subcommand is imported when it runs."""

import importlib.metadata
import sys

import click
from click.shell_completion import get_completion_class

from patient.command_line import HELP, LazyCommand, OrderedGroup

COMMANDS = [
    LazyCommand("predict", "Predict the probability that a patient has heart disease.", "service.cli.predict:predict"),
    LazyCommand("explain", "Show what each measurement adds to the probability.", "service.cli.predict:explain"),
    LazyCommand(
        "score", "Score tables of patients: files, folders, pipes, object stores.", "service.cli.score.command:score"
    ),
    LazyCommand("convert", "Convert a table in the codes of Kaggle's heart.csv.", "service.cli.convert:convert"),
    LazyCommand("serve", "Serve predictions over HTTP.", "service.__main__:main"),
    LazyCommand("train", "Train and evaluate the network, and make it the next version.", "trainer.__main__:train"),
]
STATUS = """Exit status: 0 success, 1 a failure or refusal, 2 a wrong command line, 3 invalid patient records.
`heart COMMAND --help` explains a command."""

try:
    VERSION = importlib.metadata.version("heart")
except importlib.metadata.PackageNotFoundError:
    VERSION = "(not installed)"


@click.group(cls=OrderedGroup, commands=COMMANDS, context_settings=HELP, epilog=STATUS)
@click.version_option(VERSION, message="heart %(version)s", help="Show the version.")
def heart() -> None:
    """The probability of heart disease from 13 measurements. Not a medical device."""


@heart.command(short_help="Print the code for completion in bash, zsh or fish.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the code that teaches a shell to complete commands, options and codes.

    \b
    In ~/.bashrc:  eval "$(heart completion bash)"
    """
    shell_complete = get_completion_class(shell)
    assert shell_complete
    click.echo(shell_complete(heart, {}, "heart", "_HEART_COMPLETE").source())


def main() -> None:
    try:
        heart(prog_name="heart")
    except ModuleNotFoundError as error:
        sys.exit(f"Error: {error.name} is not installed; `make install` installs it.")


if __name__ == "__main__":
    main()
