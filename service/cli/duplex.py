"""An answer through a service, as a file for pyarrow; whoever reads it sends the request's body meanwhile."""

import http.client
from typing import Any

from service.cli.attempt import said
from service.client.duplex import Duplex
from service.records.errors import TableError
from service.tables.source import Source

PATIENCE = 3600.0  # seconds in which nothing goes either way: a service that spools answers late


class Answered:
    """A response while it comes."""

    closed = False

    def __init__(self, connection: http.client.HTTPConnection, method: str, body: Source | None) -> None:
        self.connection = connection
        duplex: Any = Duplex(connection.sock, body, PATIENCE)  # all of a socket that http.client uses
        self.response = http.client.HTTPResponse(duplex, method=method)
        self.response.begin()
        self.headers = self.response.headers

    def read(self, size: int | None = None, /) -> bytes:
        """As of a file. Raises TableError where the answer ends before its end."""
        try:
            return self.response.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise TableError(f"The service broke its answer off: {said(error)}.") from None

    def close(self) -> None:
        """Nothing that comes after is wanted."""
        self.connection.close()

    def __enter__(self) -> "Answered":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
