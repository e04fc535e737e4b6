"""Log to stderr, one line per event, from a background thread."""

import logging
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from service.observe.log_format import ROOT, AccessEntry, JsonFormatter, TextFormatter, access_json, access_text
from service.observe.log_writer import LogWriter

if TYPE_CHECKING:
    from service.settings import Settings

FLUSH_SECONDS = 1.0  # how long a process that ends waits for its last lines to be written

LINES_AT_ONCE = 8  # access log lines that are put together: fewer bytes than are written at once

AccessLog = Callable[[Sequence[AccessEntry]], object]


def to_stderr(settings: "Settings", in_background: bool = True) -> None:
    """Log everything to stderr, including warnings and uncaught exceptions.

    In a process that has configured logging already, such as a test, nothing changes. in_background: by a thread, as a
    process must not that forks
    """
    if logging.getLogger().handlers:
        return
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    handler: logging.Handler
    if in_background:
        handler = Handler(as_json, settings.access_log and level <= logging.INFO)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it quotes what it cannot parse
    logging.captureWarnings(True)
    sys.excepthook = lambda *error: logging.getLogger("service").critical(
        "uncaught exception, the process ends", exc_info=error
    )


def access_log() -> AccessLog | None:
    """Return the function that logs finished requests, or None without an access log."""
    handler = _installed()
    return handler.log_requests if handler and handler.has_access_log else None


def count_drops(callback: Callable[[int], object]) -> None:
    """Call `callback` with each number of dropped lines. It runs under a lock, in any thread."""
    if handler := _installed():
        handler.writer.count_drops(callback)


def flush() -> None:
    """Wait until all lines are written, FLUSH_SECONDS at most."""
    if handler := _installed():
        handler.flush()


class Handler(logging.Handler):
    """Passes records to the log writer, which also takes the access log."""

    def __init__(self, as_json: bool, has_access_log: bool) -> None:
        super().__init__()
        self.has_access_log = has_access_log
        self.formatter = JsonFormatter() if as_json else TextFormatter()
        self.access_line = access_json if as_json else access_text
        self.writer = LogWriter(2, self._report)

    def log_requests(self, entries: Sequence[AccessEntry]) -> None:
        """Make the lines here: in the writer's thread it would cost the same, and the GIL's handing over on top."""
        lines = [*map(self.access_line, entries)]
        for start in range(0, len(lines), LINES_AT_ONCE):
            self.writer.put(b"".join(lines[start : start + LINES_AT_ONCE]))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode(errors="replace")
        except Exception:  # a message that does not fit its arguments
            self.handleError(record)
            return
        self.writer.put(line + b"\n", record.levelno >= logging.ERROR)

    def flush(self) -> None:
        """Called by Python too, when the process ends."""
        self.writer.flush(FLUSH_SECONDS)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Log where the record came from, without the arguments that logging's own method would print."""
        place = f"{record.pathname.removeprefix(ROOT)}:{record.lineno}"
        self.writer.put(self._line(logging.ERROR, f"log message does not fit its arguments: {place}"), True)

    def _report(self, lines: int) -> bytes:
        return self._line(logging.WARNING, f"{lines} log lines dropped: stderr is not read, or cannot be written")

    def _line(self, level: int, message: str) -> bytes:
        return self.format(logging.LogRecord(__name__, level, __file__, 0, message, None, None)).encode() + b"\n"


def _installed() -> Handler | None:
    return next((handler for handler in logging.getLogger().handlers if isinstance(handler, Handler)), None)
