"""A file in a multipart/form-data body, as it comes."""

from collections.abc import Callable
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.tables.faults import TableError
from service.tables.source import PIECE, Source


class Upload:
    """The one file of a form, as a source. Its name and type are known once it is made; that reads no further."""

    def __init__(self, source: Source, boundary: bytes) -> None:
        self.source = source
        self.headers: dict[bytes, bytes] = {}
        self.file_name = self.media_type = ""
        self.begun = self.ended = False
        self.parts: list[bytes] = []
        self.rest = b""
        self._name = self._value = b""
        calls: dict[str, Callable[..., Any]] = {
            "on_part_begin": self._part_begins,
            "on_header_field": self._name_comes,
            "on_header_value": self._value_comes,
            "on_header_end": self._header_ends,
            "on_headers_finished": self._headers_end,
            "on_part_data": lambda data, start, end: self.parts.append(data[start:end]),
            "on_end": self._ends,
        }
        self.parser = MultipartParser(boundary, calls)  # type: ignore[arg-type]  # it asks for a TypedDict
        while not self.begun and not self.ended:
            self._more()
        if not self.begun:
            raise TableError("The form has no file.")

    def read(self, size: int, /) -> bytes:
        """See Source. Raises TableError."""
        while not self.rest:
            if self.ended and not self.parts:
                return b""
            if not self.parts:
                self._more()
            self.rest = b"".join(self.parts)
            self.parts.clear()
        out, self.rest = self.rest[:size], self.rest[size:]
        return out

    def _more(self) -> None:
        data = self.source.read(PIECE)
        try:
            if data:
                self.parser.write(data)
                return
        except FormParserError:
            raise TableError("The form is not multipart/form-data.") from None
        if not self.ended:
            raise TableError("The form is cut off.")

    def _part_begins(self) -> None:
        if self.begun:
            raise TableError("The form has more than its file: options are query parameters.")
        self.headers.clear()

    def _name_comes(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _value_comes(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self.headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self.headers.get(b"content-disposition", b""))
        self.file_name = options.get(b"filename", b"").decode(errors="replace")
        self.media_type = self.headers.get(b"content-type", b"").decode("latin-1")
        self.begun = True

    def _ends(self) -> None:
        self.ended = True
