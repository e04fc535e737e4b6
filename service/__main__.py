"""`python -m service`: read the settings, load the model, serve; `score`: score files instead; `key`: make a key."""

import logging
import sys

from patient.artefact import ArtefactError
from service import server
from service.http import api_keys as keys
from service.model.device import ProviderError
from service.model.registry import ModelRegistry
from service.observe import log as logs
from service.observe.metrics import Metrics
from service.settings import SettingsError, from_command_line, refuse_exposure

log = logging.getLogger("service")


def main(arguments: list[str] | None = None, program: str | None = None) -> int | str:
    """Serve until a signal; returns what the process exits with. `program` is what it was called by."""
    if (arguments := sys.argv[1:] if arguments is None else arguments)[:1] == ["score"]:
        from service.cli.score import main as score

        return score(arguments[1:])
    if arguments[:1] == ["key"]:
        return _key(arguments[1:])
    try:
        settings = from_command_line(arguments, program)
        refuse_exposure(settings)
        if settings.keys:
            keys.ApiKeys(settings.keys)  # each worker reads them for itself; here a refusal is one line
        logs.to_stderr(settings)
        log.info("loading the model from %s", settings.models)
        metrics = Metrics()
        registry = ModelRegistry(settings, metrics.record_reload)
        registry.start()  # here and not in the app: a refusal is then one line
    except (SettingsError, keys.ApiKeysError) as error:
        return f"service: {error}"
    except (ArtefactError, ProviderError) as error:
        return f"service: will not start: {error}"
    finally:
        logs.flush()  # before the refusal, which is the last line
    log.info("the page: http://%s:%d/   for programs: http://%s:%d/docs", *(settings.host, settings.port) * 2)
    server.serve(settings, registry, metrics)
    return 0


def _key(arguments: list[str]) -> int | str:
    """The line for the file of keys on stdout; the key itself, this once, on stderr: each can go where it belongs."""
    if len(arguments) not in (1, 2) or arguments[0].startswith("-"):
        return "usage: python -m service key NAME [all|metrics] >> FILE"
    try:
        key, line = keys.new_key(*arguments)
    except keys.ApiKeysError as error:
        return f"service: {error}"
    if sys.stderr.isatty():
        sys.stderr.write("the key, shown only here: ")
    sys.stderr.write(f"{key}\n")
    sys.stdout.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
