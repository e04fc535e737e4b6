"""What a call of the client raises. No message repeats a value that was sent: these are patients.

what went wrong                                            raised           worth another try
a record, or a row of a table, that is refused (422)       InvalidRecord    no
no key, or one that the service does not know (401)        Unauthorized     no
a key that may not ask this (403)                          Forbidden        no
more than the service takes at once (413)                  TooLarge         no
anything else that the service refuses, or its own fault   Refused          no
nobody answers, or nobody who can (503), or too late       Unavailable      the client has tried until its deadline
what answers is no service of this kind                    NotThisService   no
"""

import json
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a record: what it should have been, and a JSON pointer to where it stands."""

    pointer: str
    detail: str


class ServiceError(Exception):
    """A call that has no answer. The message is a sentence.

    status: of HTTP, if there was an answer; request_id: under which the service's log speaks of it
    """

    def __init__(self, detail: str, request_id: str = "", status: int | None = None) -> None:
        super().__init__(detail, request_id, status)
        self.detail, self.request_id, self.status = detail, request_id, status

    def __str__(self) -> str:
        return f"{self.detail} (request {self.request_id})" if self.request_id else self.detail


class Refused(ServiceError):
    """The service refuses the request, or has a fault (status 500)."""


class InvalidRecord(Refused):
    """A record that is none: `errors` names what is wrong, the first 100 of `total`."""

    def __init__(
        self,
        detail: str,
        request_id: str = "",
        status: int | None = None,
        errors: tuple[Fault, ...] = (),
        total: int = 0,
    ) -> None:
        super().__init__(detail, request_id, status)
        self.args = (detail, request_id, status, errors, total)  # with which it is copied
        self.errors, self.total = errors, total

    def __str__(self) -> str:
        listed = "; ".join(f"{fault.pointer}: {fault.detail}".removeprefix(": ") for fault in self.errors[:3])
        more = f"; and {self.total - 3} more" if self.total > 3 else ""
        return " ".join(filter(None, (super().__str__(), listed + more)))


class Unauthorized(Refused):
    """The service knows no such key, or was given none."""


class Forbidden(Refused):
    """The key may not ask this."""


class TooLarge(Refused):
    """More than the service takes at once: `score` takes tables of any size."""


class Unavailable(ServiceError):
    """Nobody answers who could, or not in time; the client has tried again until its deadline, where that may help.

    after: seconds after which another answer may come; None: waiting does not help
    """

    def __init__(
        self, detail: str, request_id: str = "", status: int | None = None, after: float | None = None
    ) -> None:
        super().__init__(detail, request_id, status)
        self.args = (detail, request_id, status, after)
        self.after = after


class NotThisService(ServiceError):
    """Something answers, but no service of this kind."""


KINDS: dict[int, type[Refused]] = {
    HTTPStatus.UNAUTHORIZED: Unauthorized,
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TooLarge,
}
NOBODY = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)


def refusal(status: int, headers: Message, body: bytes, where: str, request_id: str) -> ServiceError:
    """An answer other than 200 as what is to be raised: a problem+json (RFC 9457), or a stranger's page."""
    try:
        problem = json.loads(body)
        detail = str(problem["detail"])
        errors = tuple(Fault(str(error["pointer"]), str(error["detail"])) for error in problem.get("errors") or ())
        total = int(problem.get("total") or len(errors))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        if status not in NOBODY:
            return NotThisService(f"{where} answers {status}, and no service of this kind does so.", request_id, status)
        return Unavailable(
            f"What stands before the service at {where} answers {status}.", request_id, status, _after(headers) or 0
        )
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return InvalidRecord(detail, request_id, status, errors, total)
    if status in NOBODY:  # a service that says 503, and not when to come back, has lost its GPU
        return Unavailable(detail, request_id, status, _after(headers))
    return KINDS.get(status, Refused)(detail, request_id, status)


def _after(headers: Message) -> float | None:
    after = headers.get("Retry-After", "")
    return float(after) if after.isascii() and after.isdecimal() else None
