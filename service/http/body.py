"""Request body -> patient records, or a Problem that says what is wrong with it and where."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus

import msgspec
from msgspec.structs import astuple
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from patient.record import FIELDS, PatientRecord, measurements
from service.http.problems import LISTED, FieldError, Problem
from service.records.decoding import RECORD

EXPECTED = {field.name: field for field in measurements()}
Values = tuple[float | None, ...]  # in the order of FIELDS
Location = tuple[int | str, ...]
JSON = (b"content-type", b"application/json")
HELD = 2**28  # bytes of JSON bodies that are still coming, all together
NAME = 64  # characters of an unknown field's name that an error repeats


async def read_json(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The raw body of a JSON request, never more than `limit` bytes of it. Raises Problem 413 or 415."""
    if JSON not in scope["headers"]:
        _check_type(dict(scope["headers"]).get(b"content-type", b""))
    return await read(scope, receive, limit)


async def read(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The raw body of a request, never more than `limit` bytes of it. Raises Problem 413."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body", False) or message["type"] != "http.request":
        return await _rest(body, message, scope, receive, limit)
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _check_type(media_type: bytes) -> None:
    if media_type.partition(b";")[0].strip().lower() != JSON[1]:
        detail = "Send the header `Content-Type: application/json` and a JSON body."
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept-Post": "application/json"})


async def _rest(body: bytes, message: Message, scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole of a body that comes in pieces, the first of which is here."""
    if int(dict(scope["headers"]).get(b"content-length", 0)) > limit:
        raise _too_large(limit)  # before it is read
    parts = [body]
    with _Held() as held:
        while message["type"] == "http.request":
            held.add(len(parts[-1]))
            if held.size > limit:
                raise _too_large(limit)
            if not message.get("more_body", False):
                return b"".join(parts)
            message = await receive()
            parts.append(message.get("body", b""))
    raise ClientDisconnect


class _Held:
    """The bytes of one body that is still coming; all of these together are bounded, however many clients send."""

    all = 0

    def __enter__(self) -> "_Held":
        self.size = 0
        return self

    def __exit__(self, *_: object) -> None:
        _Held.all -= self.size

    def add(self, more: int) -> None:
        """Raises Problem 503 where there is no room for them."""
        self.size += more
        _Held.all += more
        if _Held.all > HELD:
            detail = "Too many large requests are coming at once."
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"})


def _too_large(limit: int) -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body is larger than {limit} bytes.")


def one(body: bytes) -> Values:
    """A JSON object as the 13 values of a record, None = missing. Raises Problem 400 or 422."""
    try:
        values: Values = astuple(RECORD.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            record = PatientRecord.model_validate_json(body)
        except ValidationError as error:
            raise refusal(error) from None
        values = tuple(record.__dict__.values())
    if body.count(b":") != len(FIELDS):
        refuse_doubled_keys(body, 1)
    return values


def refusal(error: ValidationError) -> Problem:
    """Pydantic's verdict in the record's own words, without the values that were sent."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        return Problem(HTTPStatus.BAD_REQUEST, f"{faults[0]['msg']}.")
    listed = ((fault["loc"], words(fault["type"], fault["loc"])) for fault in faults[:LISTED])
    return invalid(listed, len(faults))


def invalid(details: Iterable[tuple[Location, str]], total: int, fields: Mapping[str, int] | None = None) -> Problem:
    """Problem 422: what is wrong where, how many faults there are in all, and by field where not all are told."""
    details = list(details)
    fields = fields or Counter(field(location) for location, _ in details)
    errors = [FieldError(pointer=pointer(location), detail=detail) for location, detail in details]
    count = f"{total} errors" if total > 1 else "1 error"
    detail = f"Not a valid patient record: {count}, see `errors`."
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors, total, fields=fields)


def pointer(location: Location) -> str:
    """JSON pointer, RFC 6901."""
    return "".join(f"/{str(step)[:NAME].replace('~', '~0').replace('/', '~1')}" for step in location)


def field(location: Location) -> str:
    """The record's field that is meant, or `other`."""
    return next((step for step in location if isinstance(step, str) and step in EXPECTED), "other")


def words(kind: str, location: Location) -> str:
    """What was expected at the place where Pydantic found a fault of this kind."""
    name = location[-1] if location else None
    if kind == "list_type":
        return "The body must be an array of patient records"
    if kind == "extra_forbidden":
        return "Not a field of a patient record"
    if not isinstance(name, str):
        return f"A patient record must be an object with the fields {', '.join(FIELDS)}"
    field = EXPECTED[name]
    if kind == "missing":
        return f"{field.title} is missing{'; send null if it was not taken' if field.nullable else ''}"
    return field.expected


def refuse_doubled_keys(body: bytes, records: int) -> None:
    """Raise Problem 422 where a key stands twice in a record: JSON parsers take the last one in silence.

    `body` holds valid records, so every colon in it ends a key and counting them is enough to know.
    """
    if body.count(b":") != records * len(FIELDS):
        doubled = [
            (location, f"{EXPECTED[str(location[-1])].title} is given twice") for location in _doubled_keys(body)
        ]
        raise invalid(doubled[:LISTED], len(doubled))


def _doubled_keys(body: bytes) -> Iterator[Location]:
    objects: list[list[str]] = []
    content = json.loads(body, object_pairs_hook=lambda pairs: objects.append([key for key, _ in pairs]))
    for row, keys in enumerate(objects):
        for key in FIELDS:
            if keys.count(key) > 1:
                yield (row, key) if isinstance(content, list) else (key,)
