"""`python -m service`: serve predictions over HTTP; subcommands score tables of files and make API keys."""

import logging
import sys
from typing import Any

import click

from patient.command_line import HELP, LazyCommand, OrderedGroup, SettingsError, options
from patient.printable import printable
from service.settings import Settings, read_settings, refuse_exposure

log = logging.getLogger("service")


@click.group(
    cls=OrderedGroup,
    commands=[LazyCommand("score", "Score tables of patients.", "service.cli.score.command:score")],
    params=options(Settings),
    invoke_without_command=True,
    context_settings=HELP,
)
@click.pass_context
def main(ctx: click.Context, /, **words: Any) -> None:
    """Serve predictions of heart disease over HTTP.

    Each option is also an environment variable: --max-body is HEART_MAX_BODY. An option takes precedence.
    """
    if ctx.invoked_subcommand:
        if any(word not in (None, ()) for word in words.values()):
            raise click.UsageError(f"Options must come after the subcommand {ctx.invoked_subcommand}.")
        return
    from patient.artefact import ArtefactError
    from service import server
    from service.http.api_keys import ApiKeys, ApiKeysError
    from service.model.device import ProviderError
    from service.model.registry import ModelRegistry
    from service.observe import log as logs
    from service.observe.metrics import Metrics

    try:
        settings = read_settings(words)
        refuse_exposure(settings)
        if settings.keys:
            ApiKeys(settings.keys)  # each worker reads them again; here an error is one line
        logs.to_stderr(settings)
        log.info("loading the model from %s", settings.models)
        metrics = Metrics()
        registry = ModelRegistry(settings, metrics.record_reload)
        registry.start()  # here and not in the app: an error is then one line
    except (SettingsError, ApiKeysError) as error:
        sys.exit(f"service: {printable(error)}")
    except (ArtefactError, ProviderError) as error:
        sys.exit(f"service: will not start: {printable(error)}")
    finally:
        logs.flush()  # before the error, which is the last line
    log.info("web page: http://%s:%d/   API documentation: http://%s:%d/docs", *(settings.host, settings.port) * 2)
    server.serve(settings, registry, metrics)


@main.command(context_settings=HELP, short_help="Make an API key.")
@click.argument("name")
@click.argument("scope", type=click.Choice(["all", "metrics"]), default="all")
def key(name: str, scope: str) -> None:
    """Make an API key: print its line for the file of keys on stdout, and the key, only this once, on stderr.

    \b
    python -m service key ward-7 >> keys
    """
    from service.http.api_keys import ApiKeysError, new_key

    try:
        secret, line = new_key(name, scope)
    except ApiKeysError as error:
        sys.exit(f"service: {error}")
    if sys.stderr.isatty():
        sys.stderr.write("The key, shown only here: ")
    sys.stderr.write(f"{secret}\n")
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main(prog_name="python -m service")
