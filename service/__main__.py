"""`python -m service`: read the settings, load the model, serve."""

import logging
import sys

import uvicorn

from patient.artefact import ArtefactError
from service.app import create_app
from service.front import Front
from service.predictor import ProviderError, load
from service.settings import SettingsError, from_command_line

log = logging.getLogger("service")


def main(arguments: list[str] | None = None) -> int | str:
    """Serve until a signal; returns what the process exits with."""
    try:
        settings = from_command_line(arguments)
        logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(message)s")
        log.info("loading the newest model of %s", settings.models)
        predictor = load(settings.models, settings.provider)  # here and not in the app: a refusal is then one line
    except SettingsError as error:
        return f"service: {error}"
    except (ArtefactError, ProviderError) as error:
        return f"service: will not start: {error}"
    log.info("predict: POST http://%s:%d/predict   try it out: http://%s:%d/docs", *(settings.host, settings.port) * 2)
    app = create_app(settings, predictor)
    uvicorn.run(
        Front(app, app.state.heart),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
