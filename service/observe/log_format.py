"""Log lines as JSON objects or as text. They hold nothing that a client sent.

An exception is logged by its type and stack: its message may quote the input.
"""

import json
import logging
import time
import traceback
from functools import lru_cache
from pathlib import Path

from service.observe.request_context import CURRENT

ROOT = str(Path(__file__).parents[2]) + "/"

# Of a finished request: method, route, status, whether the response is complete, bytes received and sent.
Response = tuple[str, str, int, bool, int, int]
# End of the request in Unix time, duration in seconds, request id, response, scored rows, model version.
AccessEntry = tuple[float, float, bytes, Response, int | None, str | None]


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message; request_id; exception and stack of an error."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {"time": _time(record.created), "level": record.levelname.lower()}
        line |= {"logger": record.name, "message": record.getMessage()}
        if request := CURRENT.get():
            line["request_id"] = request.id.decode()
        if record.exc_info and record.exc_info[1]:
            line |= {"exception": _types(record.exc_info[1]), "stack": _stack(record.exc_info[1])}
        return json.dumps(line, separators=(",", ":"))


class TextFormatter(logging.Formatter):
    """Level, message, and the request's id; an error's stack follows, one line per frame."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{record.levelname} {record.getMessage()}"
        if request := CURRENT.get():
            line += f" [{request.id.decode()}]"
        if record.exc_info and record.exc_info[1]:
            line = "\n  ".join([f"{line}: {_types(record.exc_info[1])}", *_stack(record.exc_info[1])])
        return line


def access_json(entry: AccessEntry) -> bytes:
    at, seconds, id_, response, rows, version = entry
    head = _access_head(int(at * 1000))
    return b'%b"request_id":"%b","ms":%.3f,%b' % (head, id_, seconds * 1000, _access_tail(response, rows, version))


def access_text(entry: AccessEntry) -> bytes:
    _, seconds, id_, (method, route, status, is_complete, bytes_in, bytes_out), rows, version = entry
    cut = "" if is_complete else ", cut off"
    scored = f", {rows} rows by version {version}" if rows is not None else ""
    size = f"{bytes_in} bytes in, {bytes_out} out"
    return f"INFO {method} {route} {status}{cut} in {seconds * 1000:.3f} ms{scored}, {size} [{id_.decode()}]\n".encode()


@lru_cache(16)
def _access_head(milliseconds: int) -> bytes:
    at = _time(milliseconds / 1000)
    return f'{{"time":"{at}","level":"info","logger":"service.access","message":"request",'.encode()


@lru_cache(1024)
def _access_tail(response: Response, rows: int | None, version: str | None) -> bytes:
    """Encode the fields that are equal for many requests, so that they can be cached."""
    method, route, status, is_complete, bytes_in, bytes_out = response
    line: dict[str, object] = {"method": method, "route": route, "status": status}
    line |= {} if is_complete else {"cut": True}
    line |= {"bytes_in": bytes_in, "bytes_out": bytes_out}
    line |= {} if rows is None else {"rows": rows, "model_version": version}
    return json.dumps(line, separators=(",", ":"))[1:].encode() + b"\n"


def _time(at: float) -> str:
    """ISO 8601, UTC, to the millisecond."""
    milliseconds = round(at * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(2)
def _second(at: int) -> str:  # a third of the time of datetime.isoformat, which each request would pay
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


def _types(error: BaseException) -> str:
    types = []
    while error:
        types.append(type(error).__qualname__)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)  # type: ignore[assignment]
    return " < ".join(types)


def _stack(error: BaseException) -> list[str]:
    """Where it was raised, the innermost frame last; paths in the project are relative."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename.removeprefix(ROOT)}:{frame.lineno} {frame.name}" for frame in frames]
