"""Exceptions of the client. No message repeats a value that was sent: these are patients."""

import json
from dataclasses import dataclass
from email.message import Message

from patient.printable import printable


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a record: a JSON pointer to it, and what was expected."""

    pointer: str
    detail: str


@dataclass(eq=False)
class ServiceError(Exception):
    """A call failed. The message is a sentence.

    status: the HTTP status, if there was a response; request_id: the request's id in the service's log
    """

    detail: str
    request_id: str = ""
    status: int | None = None

    def __str__(self) -> str:
        return f"{self.detail} (request {self.request_id})" if self.request_id else self.detail


class Refused(ServiceError):
    """The service refuses the request, or fails with status 500."""


@dataclass(eq=False)
class InvalidRecord(Refused):
    """A record, or a row of a table, is invalid (422): `errors` lists what is wrong, up to 100 of `total`."""

    errors: tuple[Fault, ...] = ()
    total: int = 0

    def __str__(self) -> str:
        listed = "; ".join(f"{fault.pointer}: {fault.detail}".removeprefix(": ") for fault in self.errors[:3])
        more = f"; and {self.total - 3} more" if self.total > 3 else ""
        return " ".join(filter(None, (super().__str__(), listed + more)))


class Unauthorized(Refused):
    """The key is missing, invalid or revoked (401)."""


class Forbidden(Refused):
    """The key does not allow this endpoint (403)."""


class TooLarge(Refused):
    """The request exceeds a limit of the service (413); `score` takes tables of any size."""


@dataclass(eq=False)
class Unavailable(ServiceError):
    """No response in time, or status 502, 503 or 504. The client has retried until its deadline, where that could help.

    after: seconds after which a retry may succeed; None: a retry does not help
    """

    after: float | None = None


class NotThisService(ServiceError):
    """The response is not that of a service of this kind."""


REFUSALS: dict[int, type[Refused]] = {401: Unauthorized, 403: Forbidden, 413: TooLarge}
UNAVAILABLE = (502, 503, 504)


def error_of_response(status: int, headers: Message, body: bytes, where: str, request_id: str) -> ServiceError:
    """Return the exception for a status other than 200. The body is problem+json (RFC 9457), or another server's."""
    retry_after = headers.get("Retry-After", "")
    after = float(retry_after) if retry_after.isascii() and retry_after.isdecimal() else None
    try:
        problem = json.loads(body)
        detail = printable(problem["detail"])
        listed = problem.get("errors") or ()
        errors = tuple(Fault(printable(error["pointer"]), printable(error["detail"])) for error in listed)
        total = int(problem.get("total") or len(errors))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        if status not in UNAVAILABLE:
            message = f"{where} responds with status {status}, but not as a service of this kind."
            return NotThisService(message, request_id, status)
        message = f"A proxy in front of {where} responds with status {status}."
        return Unavailable(message, request_id, status, after or 0)
    if status == 422:
        return InvalidRecord(detail, request_id, status, errors, total)
    if status in UNAVAILABLE:  # 503 without Retry-After: the service has lost its GPU
        return Unavailable(detail, request_id, status, after)
    return REFUSALS.get(status, Refused)(detail, request_id, status)
