"""The current request, as logs and metrics need it."""

from contextvars import ContextVar
from time import perf_counter


class RequestContext:
    """One request: its start, its id, and once it is scored the number of rows and the model version.

    began: seconds on the performance counter
    """

    rows: int | None = None
    version: str | None = None

    def __init__(self, id_: bytes) -> None:
        self.began = perf_counter()
        self.id = id_


CURRENT: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def record_scored(rows: int, version: str) -> None:
    """Set the number of scored rows and the model version of the current request, if there is one."""
    request = CURRENT.get()
    if request is not None:
        request.rows, request.version = rows, version
