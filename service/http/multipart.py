"""A file in a multipart/form-data body, as it comes."""

from collections.abc import Callable
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.records.errors import TableError
from service.tables.source import READ_BYTES, Source


class Upload:
    """The one file of a form, as a source. Its name and type are known once it is made; that reads no further."""

    def __init__(self, source: Source, boundary: bytes) -> None:
        self.source, self.found, self.rest = source, _Found(), b""
        self.parser = MultipartParser(boundary, self.found.calls())  # type: ignore[arg-type]  # it asks for a TypedDict
        while not self.found.begun and not self.found.ended:
            self._more()
        if not self.found.begun:
            raise TableError("The form has no file.")

    @property
    def file_name(self) -> str:
        """As the client gave it; empty if it gave none."""
        _, options = parse_options_header(self.found.headers.get(b"content-disposition", b""))
        return options.get(b"filename", b"").decode(errors="replace")

    @property
    def media_type(self) -> str:
        """The same."""
        return self.found.headers.get(b"content-type", b"").decode("latin-1")

    def read(self, size: int, /) -> bytes:
        """See Source. Raises TableError."""
        parts = self.found.parts
        while not self.rest:
            if self.found.ended and not parts:
                return b""
            if not parts:
                self._more()
            self.rest = b"".join(parts)
            parts.clear()
        out, self.rest = self.rest[:size], self.rest[size:]
        return out

    def _more(self) -> None:
        data = self.source.read(READ_BYTES)
        try:
            if data:
                self.parser.write(data)
                return
        except FormParserError:
            raise TableError("The form is not multipart/form-data.") from None
        if not self.found.ended:
            raise TableError("The form is cut off.")


class _Found:
    """What the parser comes upon. It knows neither parser nor source: all of an upload goes with its last user."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.parts: list[bytes] = []
        self.begun = self.ended = False
        self._name = self._value = b""

    def calls(self) -> dict[str, Callable[..., Any]]:
        """What the parser calls."""
        return {
            "on_part_begin": self._part_begins,
            "on_header_field": self._name_comes,
            "on_header_value": self._value_comes,
            "on_header_end": self._header_ends,
            "on_headers_finished": self._headers_end,
            "on_part_data": lambda data, start, end: self.parts.append(data[start:end]),
            "on_end": self._ends,
        }

    def _part_begins(self) -> None:
        if self.begun:
            raise TableError("The form has more than its file: options are query parameters.")

    def _name_comes(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _value_comes(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self.headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _headers_end(self) -> None:
        self.begun = True

    def _ends(self) -> None:
        self.ended = True
