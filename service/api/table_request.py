"""Parse the headers and query of a request that sends a table."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus

from starlette.requests import Request

from service.http.body import content_encoding
from service.http.problems import Problem
from service.tables import columns
from service.tables.formats import FORMATS, NDJSON, Format

FORM = "multipart/form-data"
FORMAT_BY_TYPE = {media_type: format_ for format_ in FORMATS for media_type in format_.media_types}
MEDIA_TYPES = tuple(format_.media_type for format_ in FORMATS)  # that errors list
PARAMETERS = ("on_error", "keep")


@dataclass(frozen=True, slots=True)
class TableRequest:
    """What a request asks for."""

    format: Format | None  # of the body; None for a form, whose file has the format
    boundary: bytes  # of the form's parts
    encoding: str | None  # how the body is compressed
    accept: Mapping[str, float]  # the weights of the media ranges that the client accepts
    on_error: str | None  # what to do with invalid rows; None for the format's default
    keep: columns.Keep  # the columns to pass through

    def response_format(self, body_format: Format) -> Format:
        """The format that the client prefers, or `body_format` if it prefers no other. Raises Problem 406."""
        best = max((body_format, *FORMATS), key=self._weight)  # the first of equals
        if not self._weight(best):
            raise Problem(HTTPStatus.NOT_ACCEPTABLE, f"Accept one of {', '.join(MEDIA_TYPES)}.")
        return best

    def _weight(self, format_: Format) -> float:
        """The weight of the most specific range that matches; 0 if none does."""
        ranges = (*format_.media_types, format_.media_type.partition("/")[0] + "/*", "*/*")
        return next((self.accept[range_] for range_ in ranges if range_ in self.accept), 0)

    def reports_errors(self, body_format: Format) -> bool:
        """Whether invalid rows get an `error` in the response: the default for NDJSON, which streams."""
        return body_format is NDJSON if self.on_error is None else self.on_error == "report"


def parse_table_request(request: Request) -> TableRequest:
    """Parse the headers and the query. Raises Problem 400, 406, 415 or 422, and ColumnsError."""
    query = request.query_params
    if not set(query) <= {*PARAMETERS}:
        detail = f"The only query parameters are {' and '.join(PARAMETERS)}."
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    on_error = query.getlist("on_error")
    if on_error not in ([], ["refuse"], ["report"]):
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "on_error must be refuse or report, and be given once.")
    format_, boundary = _format_and_boundary(request.headers.get("content-type", ""))
    parsed = TableRequest(
        format=format_,
        boundary=boundary,
        encoding=content_encoding(request.headers),
        accept=_accepted(request.headers.getlist("accept")),
        on_error=on_error[0] if on_error else None,
        keep=columns.parse_keep(",".join(query.getlist("keep"))),
    )
    parsed.response_format(format_ or NDJSON)  # raises 406 before the body is read; a form's format is not known yet
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
        try:
            boundary = header.get_boundary("")
        except (LookupError, ValueError):  # boundary*=charset''... (RFC 2231) with an unknown charset
            boundary = ""
        if not 0 < len(boundary) <= 70 or not boundary.isascii():
            raise Problem(HTTPStatus.BAD_REQUEST, f"The Content-Type {FORM} must have a boundary.")
        return None, boundary.encode()
    format_ = format_of_type(content_type)
    if not format_:
        types = ", ".join((*MEDIA_TYPES, FORM))
        detail = f"Send the header `Content-Type` with one of {types}."
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept-Post": types})
    return format_, b""


def _accepted(headers: Sequence[str]) -> dict[str, float]:
    """Parse Accept headers; media ranges with an invalid weight are ignored, and so are repeated ones."""
    accepted: dict[str, float] = {}
    for item in ",".join(headers).split(","):
        range_, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        with suppress(ValueError):
            accepted.setdefault(range_, float(weight))
    accepted.pop("", None)
    return accepted or {"*/*": 1.0}
