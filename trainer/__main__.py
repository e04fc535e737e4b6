"""`python -m trainer`: the commands, and how they fail."""

import sys
from argparse import ArgumentParser

from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource, CliSubCommand, SettingsError

from patient.artefact import ArtefactError
from trainer.suppress_stderr import suppress_stderr

with suppress_stderr():  # TensorFlow greets with a dozen lines, whatever it is told
    from trainer.cli.evaluate import Evaluate
    from trainer.cli.fit import Fit, NotPromoted
    from trainer.dataset import DatasetError
    from trainer.export import ExportError
    from trainer.generate import Generate


class Trainer(BaseSettings, env_prefix="HEART_TRAINER_", cli_prog_name="python -m trainer", cli_kebab_case=True):
    """Train and judge the heart disease network."""

    fit: CliSubCommand[Fit]
    evaluate: CliSubCommand[Evaluate]
    generate: CliSubCommand[Generate]

    def cli_cmd(self) -> None:
        """Run the command that was named."""
        CliApp.run_subcommand(self)


def parser(program: str) -> ArgumentParser:
    """What reads the command line."""
    return CliSettingsSource[ArgumentParser](Trainer, cli_prog_name=program).root_parser


def main(arguments: list[str] | None = None, program: str | None = None) -> int | str:
    """Run the command line; returns what the process exits with. `program` is what it was called by."""
    source = CliSettingsSource[ArgumentParser](Trainer, cli_prog_name=program)
    try:
        CliApp.run(Trainer, cli_args=arguments, cli_settings_source=source)
    except ValidationError as error:
        # A location is the command, its flag, and for a list the place in it.
        faults = (f"--{str(e['loc'][1]).replace('_', '-')}: {e['msg']}" for e in error.errors(include_url=False))
        return "trainer: " + "; ".join(faults)
    except (ArtefactError, DatasetError, ExportError, NotPromoted, SettingsError) as error:
        return f"trainer: {error}"
    except OSError as error:
        return f"trainer: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}"
    except KeyboardInterrupt:
        return "trainer: interrupted, nothing written"
    return 0


if __name__ == "__main__":
    sys.exit(main())
