"""`python -m service`: read the settings, load the model, serve; `python -m service score`: score files instead."""

import logging
import sys

from patient.artefact import ArtefactError
from service import workers
from service.predictor import ProviderError, load
from service.settings import SettingsError, from_command_line

log = logging.getLogger("service")


def main(arguments: list[str] | None = None) -> int | str:
    """Serve until a signal; returns what the process exits with."""
    if (arguments := sys.argv[1:] if arguments is None else arguments)[:1] == ["score"]:
        from service.cli.score import main as score

        return score(arguments[1:])
    try:
        settings = from_command_line(arguments)
        workers.log_to_stderr(settings)
        log.info("loading the newest model of %s", settings.models)
        # Here and not in the app: a refusal is then one line.
        predictor = load(settings.models, settings.provider, settings.gpu)
    except SettingsError as error:
        return f"service: {error}"
    except (ArtefactError, ProviderError) as error:
        return f"service: will not start: {error}"
    log.info("the page: http://%s:%d/   for programs: http://%s:%d/docs", *(settings.host, settings.port) * 2)
    workers.serve(settings, predictor)
    return 0


if __name__ == "__main__":
    sys.exit(main())
