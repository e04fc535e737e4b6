"""Web pages of other origins that may call the service from a browser: none, unless the settings name them."""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

ASKED = ["Authorization", "X-API-Key", "X-Request-ID", "Content-Type", "Content-Encoding"]
SHOWN = ["Retry-After", "X-Model-Version", "X-Request-ID", "X-Threshold"]


def cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """`app`, which these origins may call with a key, but never with a browser's own cookies."""
    methods = ["GET", "POST"]
    return CORSMiddleware(app, origins, methods, ASKED, expose_headers=SHOWN, max_age=600)
