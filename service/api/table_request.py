"""Parse the headers and query of a request that sends a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus

from starlette.requests import Request

from service.http.body import content_encoding
from service.http.problems import Problem
from service.tables import columns
from service.tables.formats import FORMATS, NDJSON, Format

FORM = "multipart/form-data"
FORMAT_BY_TYPE = {format_.media_type: format_ for format_ in FORMATS}
ON_ERROR = ("refuse", "report")
PARAMETERS = ("on_error", "keep")


@dataclass(frozen=True, slots=True)
class TableRequest:
    """What a request asks for.

    format: of the body; None for a form, whose file has the format
    boundary: of the form's parts
    encoding: how the body is compressed
    accept: the media types that the client accepts, with their weights
    on_error: what to do with invalid rows; None for the format's default
    keep: the columns to pass through
    """

    format: Format | None
    boundary: bytes
    encoding: str | None
    accept: Sequence[tuple[str, float]]
    on_error: str | None
    keep: columns.Keep

    def response_format(self, body_format: Format) -> Format:
        """The format that the client prefers, or `body_format` if it likes no other better. Raises Problem 406."""
        weights = {format_: _weight(format_.media_type, self.accept) for format_ in (body_format, *FORMATS)}
        best = max(weights, key=lambda format_: weights[format_])  # the first of equals
        if not weights[best]:
            raise Problem(HTTPStatus.NOT_ACCEPTABLE, f"Accept one of {', '.join(FORMAT_BY_TYPE)}.")
        return best

    def reports_errors(self, body_format: Format) -> bool:
        """Whether invalid rows get an `error` in the response: the default for NDJSON, which streams."""
        return body_format is NDJSON if self.on_error is None else self.on_error == "report"


def parse_table_request(request: Request) -> TableRequest:
    """Raises Problem 400, 406, 415 or 422, and ColumnsError."""
    query = request.query_params
    if not set(query) <= {*PARAMETERS}:
        detail = f"The only query parameters are {' and '.join(PARAMETERS)}."
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    on_error = query.getlist("on_error")
    if len(on_error) > 1 or not set(on_error) <= {*ON_ERROR}:
        detail = f"on_error must be {' or '.join(ON_ERROR)}, and be given once."
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    format_, boundary = _format_and_boundary(request.headers.get("content-type", ""))
    parsed = TableRequest(
        format=format_,
        boundary=boundary,
        encoding=content_encoding(request.headers),
        accept=_accepted(request.headers.getlist("accept")),
        on_error=on_error[0] if on_error else None,
        keep=columns.parse_keep(",".join(query.getlist("keep"))),
    )
    parsed.response_format(format_ or NDJSON)  # if any is acceptable does not depend on the body's format
    return parsed


def format_of_type(content_type: str) -> Format | None:
    """The format of a Content-Type, or None. Raises Problem 415 for text that is not UTF-8."""
    header = _header(content_type)
    format_ = FORMAT_BY_TYPE.get(header.get_content_type())
    if format_ and str(header.get_param("charset", "utf-8")).lower() not in ("utf-8", "utf8", "us-ascii"):
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send text as UTF-8.")
    return format_


def _header(content_type: str) -> Message:
    message = Message()
    message["content-type"] = content_type
    return message


def _format_and_boundary(content_type: str) -> tuple[Format | None, bytes]:
    header = _header(content_type)
    if header.get_content_type() == FORM:
        boundary = header.get_boundary("")
        if not 0 < len(boundary) <= 70 or not boundary.isascii():
            raise Problem(HTTPStatus.BAD_REQUEST, f"The Content-Type {FORM} must have a boundary.")
        return None, boundary.encode()
    format_ = format_of_type(content_type)
    if not format_:
        types = ", ".join((*FORMAT_BY_TYPE, FORM))
        detail = f"Send the header `Content-Type` with one of {types}."
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept-Post": types})
    return format_, b""


def _accepted(headers: Sequence[str]) -> list[tuple[str, float]]:
    """Parse Accept headers; media ranges with an invalid weight are ignored."""
    accepted = []
    for item in ",".join(headers).split(","):
        range_, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            accepted += [(range_, float(weight))] if range_ else []
        except ValueError:
            continue
    return accepted or [("*/*", 1.0)]


def _weight(media_type: str, accept: Sequence[tuple[str, float]]) -> float:
    """The weight of the most specific range that matches a media type; 0 if none does."""
    for range_ in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        for accepted, weight in accept:
            if accepted == range_:
                return weight
    return 0
