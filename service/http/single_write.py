"""Write a small JSON response in a single call, head and body together.

Uvicorn takes a response as two ASGI messages and checks each header with two regular expressions: 7 us of about 60.
"""

from functools import lru_cache

from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from service.http.security_headers import DATA_HEADERS, Headers


def write_response(send: Send, request_id: bytes, body: bytes) -> bool:
    """Send 200 with JSON if `send` is Uvicorn's own and its connection is in its usual state; else return False."""
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
def _head(default_headers: Headers) -> bytes:
    """The head up to the value of content-length. The server's default headers change once a second: the date."""
    headers = (*default_headers, (b"content-type", b"application/json"), *DATA_HEADERS)
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"%b%bcontent-length: " % (STATUS_LINE[200], lines)
