"""Cross-origin requests: web pages may call the service only from origins that the settings name."""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

REQUEST_HEADERS = ["Authorization", "X-API-Key", "X-Request-ID", "Content-Type", "Content-Encoding"]
RESPONSE_HEADERS = ["Retry-After", "X-Model-Version", "X-Request-ID", "X-Threshold"]


def cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Allow these origins to call `app` with an API key, but never with the browser's cookies."""
    methods = ["GET", "POST"]
    return CORSMiddleware(app, origins, methods, REQUEST_HEADERS, expose_headers=RESPONSE_HEADERS, max_age=600)
