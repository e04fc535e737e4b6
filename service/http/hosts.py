"""Check the Host header, so that a web page cannot reach a local service by DNS rebinding.

A page whose host name is made to resolve to 127.0.0.1 has the same origin as the service there, but browsers still send
the page's host name. Starlette's TrustedHostMiddleware would run after the protocol's own responses, takes `[::1]:8000`
for the name `[`, and responds with plain text.
"""

import ipaddress
import re
from http import HTTPStatus

from service.http.problems import Problem
from service.settings import Settings, is_loopback

# RFC 3986, section 3.2.2, and an optional port
HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(?::[0-9]*)?", re.ASCII)
ANY = "*"
INVALID_HOST = Problem(HTTPStatus.BAD_REQUEST, "The request must have one valid Host header.")
WRONG_HOST = Problem(
    HTTPStatus.MISDIRECTED_REQUEST,
    "This service does not accept the request's Host header. Use localhost, or start it with --allowed-hosts.",
)

Hosts = tuple[str, ...] | None  # patterns, besides names of this machine; None accepts any host


def accepted_hosts(settings: Settings) -> Hosts:
    """Return what the settings accept. By default any host, but none without keys on a loopback address."""
    if settings.allowed_hosts:
        return None if ANY in settings.allowed_hosts else tuple(settings.allowed_hosts)
    return () if not settings.keys and is_loopback(settings.host) else None


def host_problem(accepted: Hosts, value: bytes) -> Problem | None:
    """Return what is wrong with the value of a Host header, or None."""
    parsed = HOST.fullmatch(value.strip(b" \t"))
    if not parsed:
        return INVALID_HOST
    name = parsed[1].decode().lower().removesuffix(".").strip("[]")
    if accepted is None or _is_this_machine(name) or any(_matches(name, pattern) for pattern in accepted):
        return None
    return WRONG_HOST


def _is_this_machine(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _matches(name: str, pattern: str) -> bool:
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern
