"""What a request for a table asks: its headers and its query, read by name, nothing guessed."""

from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus

from starlette.requests import Request

from service.http.problems import Problem
from service.tables import columns
from service.tables.formats import FORMATS, NDJSON, Format

FORM = "multipart/form-data"
TYPES = {format_.media_type: format_ for format_ in FORMATS}
PACKINGS = {"": None, "identity": None, "gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd"}
ON_ERROR = ("refuse", "report")
QUERY = ("on_error", "keep")


@dataclass(frozen=True, slots=True)
class TableRequest:
    """format: of the body; None is that of the file in a form, whose parts `boundary` parts.

    packing: how the body is compressed; accept: the types the client takes, each with its weight; report: what becomes
    of bad rows, where the client says; keep: the columns that pass through
    """

    format: Format | None
    boundary: bytes
    packing: str | None
    accept: Sequence[tuple[str, float]]
    report: bool | None
    keep: columns.Keep

    def answer(self, came: Format) -> Format:
        """The format of the answer: of those that the client likes best, if it may be, what came in. Problem 406."""
        weights = {format_: _weight(format_.media_type, self.accept) for format_ in (came, *FORMATS)}
        best = max(weights, key=lambda format_: weights[format_])  # the first, where several are
        if not weights[best]:
            raise Problem(HTTPStatus.NOT_ACCEPTABLE, f"Accept one of {', '.join(TYPES)}.")
        return best

    def reports(self, came: Format) -> bool:
        """Whether bad rows are answered in place. NDJSON does so unless told otherwise: it is what streams."""
        return came is NDJSON if self.report is None else self.report


def parse_table_request(request: Request) -> TableRequest:
    """What this request asks. Raises Problem 406, 415 or 422, and ColumnsError."""
    query = request.query_params
    for name in query:
        if name not in QUERY:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"The query takes {' and '.join(QUERY)}, and nothing else.")
    on_error = query.getlist("on_error")
    if len(on_error) > 1 or not set(on_error) <= {*ON_ERROR}:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"on_error is {' or '.join(ON_ERROR)}, once.")
    format_, boundary = _media(request.headers.get("content-type", ""))
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in PACKINGS:
        headers = {"Accept-Encoding": "gzip, zstd"}
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Encoding is gzip or zstd.", headers=headers)
    found = TableRequest(
        format=format_,
        boundary=boundary,
        packing=PACKINGS[encoding],
        accept=_accepted(request.headers.getlist("accept")),
        report=on_error == ["report"] if on_error else None,
        keep=columns.parse_keep(",".join(query.getlist("keep"))),
    )
    found.answer(format_ or NDJSON)  # whether there is one does not depend on what came
    return found


def of_type(content_type: str) -> Format | None:
    """The format that a Content-Type names; None for another. Raises Problem 415 for text that is not UTF-8."""
    message = Message()
    message["content-type"] = content_type
    found = TYPES.get(message.get_content_type())
    if found and str(message.get_param("charset", "utf-8")).lower() not in ("utf-8", "utf8", "us-ascii"):
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send text as UTF-8.")
    return found


def _media(content_type: str) -> tuple[Format | None, bytes]:
    message = Message()
    message["content-type"] = content_type
    if message.get_content_type() == FORM:
        boundary = message.get_boundary("")
        if not 0 < len(boundary) <= 70 or not boundary.isascii():
            raise Problem(HTTPStatus.BAD_REQUEST, f"{FORM} needs a boundary.")
        return None, boundary.encode()
    found = of_type(content_type)
    if not found:
        types = ", ".join((*TYPES, FORM))
        detail = f"Send the header `Content-Type`, one of {types}."
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept-Post": types})
    return found, b""


def _accepted(headers: Sequence[str]) -> list[tuple[str, float]]:
    found = []
    for item in ",".join(headers).split(","):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            found += [(kind, float(weight))] if kind else []
        except ValueError:
            continue
    return found or [("*/*", 1.0)]


def _weight(media_type: str, accept: Sequence[tuple[str, float]]) -> float:
    """How much the most precise of the ranges that match likes a type."""
    for kind in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        for accepted, weight in accept:
            if accepted == kind:
                return weight
    return 0
