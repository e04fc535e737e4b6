"""`heart`: one command for what the service and the trainer do. It finds the door; a room is loaded when asked for."""

import argparse
import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete

SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
Outcome = int | str | None  # as sys.exit takes it


class Program(click.Command):
    """A command whose line is read by a program of its own, --help included, which is loaded when it is run.

    run: the program; parser: what reads its line, for the shell's completion; commands: those of its own
    """

    def __init__(
        self,
        name: str,
        run: Callable[[list[str]], Outcome],
        parser: Callable[[], argparse.ArgumentParser],
        commands: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name, add_help_option=False)
        self.run, self.parser, self.commands = run, parser, commands

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """All of them go on as they are."""
        ctx.args = args
        return args

    def invoke(self, ctx: click.Context) -> None:
        """Run it, and end as it does."""
        sys.exit(self.run(ctx.args))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands and flags of the parser, the choices of a flag, and files."""
        if self.commands and not ctx.args and not incomplete.startswith("-"):
            return _items(self.commands, incomplete)  # without loading it
        return complete(self.parser(), ctx.args, incomplete)


def complete(parser: argparse.ArgumentParser, words: list[str], incomplete: str) -> list[CompletionItem]:
    """What may come after these words."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            commands = cast(dict[str, argparse.ArgumentParser], action.choices)
            if words and words[0] in commands:
                return complete(commands[words[0]], words[1:], incomplete)
    flags = {flag: action for action in parser._actions for flag in action.option_strings}
    asked = flags.get(words[-1]) if words else None
    if asked and asked.nargs != 0:
        listed = str(asked.metavar)  # where Pydantic's settings write what may be chosen
        choices = asked.choices or (listed[1:-1].split(",") if listed.startswith("{") else ())
        return _items(choices, incomplete) if choices else [CompletionItem(incomplete, type="file")]
    if incomplete.startswith("-"):
        return _items((flag for flag in flags if flag.startswith("--")), incomplete)
    return [CompletionItem(incomplete, type="file")]


def _items(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


@dataclass(frozen=True)
class Door:
    """A command: what it is for, and how it is loaded."""

    about: str
    load: Callable[[str], click.Command]


def _ask(name: str) -> click.Command:
    command: click.Command = getattr(importlib.import_module("service.cli.ask"), name)
    return command


def _score(name: str) -> click.Command:
    from service.cli import score
    from service.settings import from_command_line

    program = f"heart {name}"
    return Program(name, lambda words: score.main(words, program), lambda: score.parser(from_command_line([]), program))


def _serve(name: str) -> click.Command:
    def run(words: list[str]) -> Outcome:
        from service.__main__ import main

        return main(words, f"heart {name}")

    from service.settings import parser

    return Program(name, run, lambda: parser(f"heart {name}"))


def _train(name: str) -> click.Command:
    """Without a command of the trainer's own: `fit`."""
    commands = ("fit", "evaluate", "generate")

    def run(words: list[str]) -> Outcome:
        from trainer.__main__ import main

        return main(words if words and words[0] in (*commands, "-h", "--help") else ["fit", *words], f"heart {name}")

    def parser() -> argparse.ArgumentParser:
        from trainer.__main__ import parser  # TensorFlow takes seconds

        return parser(f"heart {name}")

    return Program(name, run, parser, commands)


def _completion(name: str) -> click.Command:
    def show(shell: str) -> None:
        click.echo(SHELLS[shell](heart, {}, "heart", "_HEART_COMPLETE").source())

    about = 'What teaches a shell to complete commands, flags and codes: eval "$(heart completion bash)" in ~/.bashrc.'
    return click.Command(
        name, params=[click.Argument(["shell"], type=click.Choice([*SHELLS]))], callback=show, help=about
    )


DOORS = {
    "predict": Door("the probability that a patient has heart disease", _ask),
    "explain": Door("the reasons for it: what each measurement adds", _ask),
    "score": Door("the probabilities for tables: files, folders, pipes, object stores", _score),
    "serve": Door("the same over HTTP", _serve),
    "train": Door("fit the network, judge it, make it the next version", _train),
    "completion": Door("complete commands, flags and codes in bash, zsh or fish", _completion),
}


STATUS = """`heart COMMAND --help` says more. Exit status: 0 where all is well, 1 where something failed or was refused,
2 where the command line is wrong, 3 where patients are bad."""


class Heart(click.Group):
    """The doors."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """In the order in which people need them."""
        return [*DOORS]

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one."""
        door = DOORS.get(cmd_name)
        return door.load(cmd_name) if door else None

    def invoke(self, ctx: click.Context) -> None:
        """Run one. Raises ClickException where its packages are not installed."""
        try:
            super().invoke(ctx)
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"`make install` brings what this needs: {error.name} is not installed."
            ) from None

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, door.about) for name, door in DOORS.items()])


def _version(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    if asked:
        try:
            click.echo(f"heart {importlib.metadata.version('heart')}")
        except importlib.metadata.PackageNotFoundError:
            click.echo("heart, not installed")
        ctx.exit()


heart = Heart(
    "heart",
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_version,
            help="Show the version and exit.",
        )
    ],
    help="The probability of heart disease from 13 measurements. Not a medical device.",
    epilog=STATUS,
)


def main() -> None:
    """Run the command line."""
    heart(prog_name="heart")


if __name__ == "__main__":
    main()
