"""Read the file of a multipart/form-data body while the body arrives."""

from collections.abc import Callable
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from service.records.errors import TableError
from service.tables.source import READ_BYTES, Source


class FormFile:
    """The only file of a form, as a source of bytes. Raises TableError.

    The constructor reads no further than the file's headers. A name or type that the client did not send is empty.
    """

    def __init__(self, source: Source, boundary: bytes) -> None:
        self.source, self.part, self.buffer = source, _Part(), b""
        self.parser = MultipartParser(boundary, self.part.callbacks())  # type: ignore[arg-type]  # a TypedDict
        while not self.part.has_headers and not self._is_form_complete():
            self._parse_more()
        if not self.part.has_headers:
            raise TableError("The form has no file.")

    @property
    def file_name(self) -> str:
        _, options = parse_options_header(self.part.headers.get(b"content-disposition", b""))
        return options.get(b"filename", b"").decode(errors="replace")

    @property
    def media_type(self) -> str:
        return self.part.headers.get(b"content-type", b"").decode("latin-1")

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes as soon as there are any; none at the end. Raises TableError."""
        parsed = self.part.content
        while not self.buffer:
            if self._is_form_complete() and not parsed:
                return b""
            if not parsed:
                self._parse_more()
            self.buffer = b"".join(parsed)
            parsed.clear()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def _is_form_complete(self) -> bool:
        return self.parser.state == MultipartState.END

    def _parse_more(self) -> None:
        data = self.source.read(READ_BYTES)
        try:
            if data:
                self.parser.write(data)
                return
        except FormParserError:
            raise TableError("The form is not multipart/form-data.") from None
        if not self._is_form_complete():
            raise TableError("The form is cut off.")


class _Part:
    """The form's part, filled by the parser. It has no reference to parser or source, which would be a cycle."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.content: list[bytes] = []
        self.has_headers = False
        self._name = self._value = b""

    def callbacks(self) -> dict[str, Callable[..., Any]]:
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": self._add_to_name,
            "on_header_value": self._add_to_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": lambda data, start, end: self.content.append(data[start:end]),
        }

    def _begin_part(self) -> None:
        if self.has_headers:
            raise TableError("The form has more than one file or field; options are query parameters.")

    def _add_to_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self.headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _end_headers(self) -> None:
        self.has_headers = True
