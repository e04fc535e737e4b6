"""A record's answer in one write: head and body at once, past what Uvicorn asks of every header of every answer.

Uvicorn takes an answer as two messages and looks at each header with two regular expressions: 7 us of some 60.
"""

from functools import lru_cache

from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from service.http.security_headers import DATA_HEADERS, Headers


def write(send: Send, request_id: bytes, body: bytes) -> bool:
    """Answer with 200 and JSON, if `send` is Uvicorn's own and its connection is as it mostly is; else do nothing."""
    cycle = getattr(send, "__self__", None)
    if type(cycle) is not RequestResponseCycle or cycle.response_started or cycle.disconnected:
        return False
    if not cycle.keep_alive or cycle.flow.write_paused or cycle.more_body:
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    head = _head(tuple(cycle.default_headers))
    cycle.transport.write(b"%b%d\r\nx-request-id: %b\r\n\r\n%b" % (head, len(body), request_id, body))
    cycle.message_event.set()
    cycle.on_response()
    return True


@lru_cache(2)
def _head(default: Headers) -> bytes:
    """All that stands before the length; `default` are the server's headers, such as the date."""
    headers = (*default, (b"content-type", b"application/json"), *DATA_HEADERS)
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"%b%bcontent-length: " % (STATUS_LINE[200], lines)
