"""What is logged, and how: one line an event, to stderr, as JSON or as text. Nothing that a client sent is in it.

An exception is told by its type and where it was raised: its message may quote what was being read.
"""

import json
import logging
import sys
import time
import traceback
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import TracebackType

from service.observe.log_writer import Lines as Queue
from service.observe.request_context import CURRENT
from service.settings import Settings

LAST = 1.0  # seconds that a process which ends gives its last lines
HOME = str(Path(__file__).parents[2]) + "/"


# A request that has ended: method, route, status, whether the answer came to its end, bytes in and out.
What = tuple[str, str, int, bool, int, int]
# When, in seconds since 1970; its seconds, id, and What; rows that were scored, and the version of the model.
AccessEntry = tuple[float, float, bytes, What, int | None, str | None]
Lines = Queue[AccessEntry | bytes]
AccessLog = Callable[[AccessEntry], object]


def to_stderr(settings: Settings) -> None:
    """Send everything that is logged there, warnings and the end of the process included.

    Whoever runs this in a process that logs already, such as a test, keeps its own way.
    """
    if logging.getLogger().handlers:
        return
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    handler = Handler(as_json, settings.access_log and level <= logging.INFO)
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it quotes what it cannot read
    logging.captureWarnings(True)
    sys.excepthook = _uncaught


def access_log() -> AccessLog | None:
    """Where the line of a request goes; None without an access log."""
    handler = _installed()
    return handler.lines.put if handler and handler.access else None


def flush() -> None:
    """Wait until all is written, but not for long."""
    if handler := _installed():
        handler.flush()


class Handler(logging.Handler):
    """Python's log, into the one queue that lines of requests go through as well."""

    def __init__(self, as_json: bool, access: bool) -> None:
        super().__init__()
        self.access = access
        self.formatter = Json() if as_json else Text()
        self.lines: Lines = Queue(2, access_json if as_json else access_text, self._lost)

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits."""
        try:
            line = self.format(record).encode(errors="replace")
        except Exception:  # a message that does not fit its arguments
            self.handleError(record)
            return
        self.lines.put(line + b"\n", urgent=True)

    def flush(self) -> None:
        """Python calls it when the process ends."""
        self.lines.flush(LAST)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Without the arguments, which Python's own would print."""
        said = f"a line could not be formatted: {record.pathname.removeprefix(HOME)}:{record.lineno}"
        self.lines.put(self.format(_record(logging.ERROR, said)).encode() + b"\n", urgent=True)

    def _lost(self, lines: int) -> bytes:
        said = f"{lines} lines were dropped: they came faster than they were read"
        return self.format(_record(logging.WARNING, said)).encode() + b"\n"


class Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """time, level, logger, message; request_id of a request, exception and stack of an error."""
        said: dict[str, object] = {"time": _when(record.created), "level": record.levelname.lower()}
        said |= {"logger": record.name, "message": record.getMessage()}
        if request := CURRENT.get():
            said["request_id"] = request.id.decode()
        if record.exc_info and record.exc_info[1]:
            said |= {"exception": _kind(record.exc_info[1]), "stack": _stack(record.exc_info[1])}
        return json.dumps(said, separators=(",", ":"))


class Text(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Level and message; of an error a line a frame."""
        said = f"{record.levelname} {record.getMessage()}"
        if request := CURRENT.get():
            said += f" [{request.id.decode()}]"
        if record.exc_info and record.exc_info[1]:
            said = "\n  ".join([f"{said}: {_kind(record.exc_info[1])}", *_stack(record.exc_info[1])])
        return said


def access_json(entry: AccessEntry | bytes) -> bytes:
    """The line of a request; other lines are made already."""
    if isinstance(entry, bytes):
        return entry
    at, seconds, id_, what, rows, version = entry
    head = _head(int(at * 1000))
    return b'%b"request_id":"%b","ms":%.3f,%b' % (head, id_, seconds * 1000, _tail(what, rows, version))


def access_text(entry: AccessEntry | bytes) -> bytes:
    """The same for people."""
    if isinstance(entry, bytes):
        return entry
    _, seconds, id_, (method, route, status, whole, bytes_in, bytes_out), rows, version = entry
    cut = "" if whole else ", cut off"
    scored = f", {rows} rows by version {version}" if rows is not None else ""
    said = (
        f"INFO {method} {route} {status}{cut} in {seconds * 1000:.3f} ms{scored}, {bytes_in} bytes in, {bytes_out} out"
    )
    return b"%b [%b]\n" % (said.encode(), id_)


@lru_cache(16)
def _head(milliseconds: int) -> bytes:
    at = _when(milliseconds / 1000)
    return f'{{"time":"{at}","level":"info","logger":"service.http.authentication","message":"request",'.encode()


@lru_cache(1024)
def _tail(what: What, rows: int | None, version: str | None) -> bytes:
    """What many requests have in common."""
    method, route, status, whole, bytes_in, bytes_out = what
    said: dict[str, object] = {"method": method, "route": route, "status": status}
    said |= {} if whole else {"cut": True}
    said |= {"bytes_in": bytes_in, "bytes_out": bytes_out}
    said |= {} if rows is None else {"rows": rows, "model_version": version}
    return json.dumps(said, separators=(",", ":"))[1:].encode() + b"\n"


def _installed() -> Handler | None:
    return next((handler for handler in logging.getLogger().handlers if isinstance(handler, Handler)), None)


def _when(at: float) -> str:
    """ISO 8601, UTC, to the millisecond."""
    milliseconds = round(at * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(2)
def _second(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


def _kind(error: BaseException) -> str:
    """Its type, and those of what led to it."""
    kinds = []
    while error:
        kinds.append(type(error).__qualname__)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)  # type: ignore[assignment]
    return " < ".join(kinds)


def _stack(error: BaseException) -> list[str]:
    """Where it was raised, the innermost frame last; paths within the project are short."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename.removeprefix(HOME)}:{frame.lineno} {frame.name}" for frame in frames]


def _record(level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord(__name__, level, __file__, 0, message, None, None)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("service").critical(
        "the process ends: an exception was not caught", exc_info=(kind, error, trace)
    )
