"""Tables through a service that runs elsewhere: the file goes to POST /predict/batch as it is.

The answer comes as an Arrow stream and is written here, so that a file is the same whoever answered; from JSON to JSON
it comes as NDJSON, which alone brings kept values back as they were.
"""

import hashlib
import http.client
import json
import re
import select
import ssl
from collections.abc import Iterator
from io import BufferedReader, RawIOBase
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
import pyarrow as pa
from pydantic import ValidationError

from patient.artefact import Metadata
from service.cli.job import Buffer, Job, Kind, Part, Usage
from service.tables.faults import LISTED, Fault, Refused, TableError, Tally
from service.tables.formats import ARROW, NDJSON
from service.tables.source import PIECE, Source

CONNECT = 10.0  # seconds
PATIENCE = 3600.0  # seconds in which nothing goes either way: a service that spools answers late
BAD = re.compile(r"(\d+) of (\d+) rows are bad\.")


class Remote:
    """An Engine. Raises Usage for a URL that is none, and TableError where no service answers."""

    def __init__(self, url: str, job: Job) -> None:
        found = urlsplit(url)
        if found.scheme not in ("http", "https") or not found.hostname or found.query or found.fragment:
            raise Usage("--url: a service's address, such as http://127.0.0.1:8000")
        self.secure, self.host, self.port = found.scheme == "https", found.hostname, found.port
        self.path, self.job = found.path.rstrip("/"), job
        with self._asked("GET", "/model", {}, None) as response:
            content = response.read()
        try:
            self.version = Metadata.model_validate_json(content).version
        except ValidationError:
            raise TableError(f"{self.host}: no service of this kind.") from None
        self.identity = f"version {self.version}, {hashlib.sha256(content).hexdigest()}, behind HTTP"

    def answer(self, source: Source, part: Part, tally: Tally) -> Iterator[Buffer]:
        """See Engine."""
        came, to = Kind(part.came), Kind(part.to)
        answer = NDJSON if came.format.json and to.format.json else ARROW
        query = {"on_error": "report" if self.job.report else "refuse", "keep": ",".join(self.job.keep)}
        headers = {"Content-Type": came.format.media_type, "Accept": answer.media_type}
        if came.packing:
            headers["Content-Encoding"] = came.packing
        with self._asked("POST", f"/predict/batch?{urlencode(query)}", headers, source, tally) as response:
            if response.headers["X-Model-Version"] != self.version:
                raise TableError("The service has another model than when this began: run it again.")
            if answer is ARROW:
                schema, batches = _batches(response, tally)
                yield from to.write(schema, batches, pipe=part.target == "-")
                return
            lines = _lines(response, tally)
            if to.format is NDJSON:
                yield from lines
                return
            said = [json.dumps(self.version), response.headers["X-Threshold"]]
            yield b'{"model_version":%s,"threshold":%s,"predictions":[' % tuple(word.encode() for word in said)
            first = True
            for block in lines:
                yield (b"" if first else b",") + block.removesuffix(b"\n").replace(b"\n", b",")
                first = False
            yield b"]}"

    def _asked(
        self, method: str, path: str, headers: dict[str, str], body: Source | None, tally: Tally | None = None
    ) -> "Answered":
        """A good answer. Raises TableError for everything else, and Refused."""
        where = f"{self.host}:{self.port or (443 if self.secure else 80)}"
        kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        connection = kind(self.host, self.port, timeout=CONNECT)
        try:
            connection.putrequest(method, self.path + path, skip_accept_encoding=True)
            for name, value in (headers | ({"Transfer-Encoding": "chunked"} if body else {})).items():
                connection.putheader(name, value)
            connection.endheaders()
            answered = Answered(connection, method, body)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise TableError(f"No service answers at {where}: {_said(error)}.") from None
        if answered.response.status != http.client.OK:
            with answered:
                raise _refusal(answered, tally, where)
        return answered


class Answered:
    """A response while it comes, as a file for pyarrow; whoever reads it sends the request's body meanwhile."""

    closed = False

    def __init__(self, connection: http.client.HTTPConnection, method: str, body: Source | None) -> None:
        self.connection = connection
        self.response = http.client.HTTPResponse(_Duplex(connection.sock, body), method=method)  # type: ignore[arg-type]
        self.response.begin()
        self.headers = self.response.headers

    def read(self, size: int | None = None, /) -> bytes:
        """As of a file. Raises TableError where the answer ends before its end."""
        try:
            return self.response.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise TableError(f"The service broke its answer off: {_said(error)}.") from None

    def close(self) -> None:
        """Nothing that comes after is wanted."""
        self.connection.close()

    def __enter__(self) -> "Answered":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Duplex(RawIOBase):
    """A connected socket to read from, which sends a body, in HTTP's chunks, whenever there is nothing to read."""

    def __init__(self, sock: Any, body: Source | None) -> None:
        self.sock, self.body = sock, body
        self.rest = memoryview(b"")
        sock.setblocking(False)

    def makefile(self, _mode: str) -> BufferedReader:
        """As http.client asks a socket."""
        return BufferedReader(self, PIECE)

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any, /) -> int:
        while True:
            try:
                return int(self.sock.recv_into(into))
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self._wait()

    def _wait(self) -> None:
        """Until there may be something to read; sends what the other side takes."""
        self._fill()
        readable, writable, _ = select.select([self.sock], [self.sock] if self.rest else [], [], PATIENCE)
        if not readable and not writable:
            raise TimeoutError("it has stopped answering")
        if writable:
            try:
                self.rest = self.rest[self.sock.send(self.rest) :]
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            except (BrokenPipeError, ConnectionResetError):  # it has heard enough, and has perhaps said why
                self.body, self.rest = None, memoryview(b"")

    def _fill(self) -> None:
        if self.rest or not self.body:
            return
        data = self.body.read(PIECE)
        if not data:
            self.body = None
        self.rest = memoryview(b"%x\r\n%b\r\n" % (len(data), data))


def _batches(response: Answered, tally: Tally) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """An Arrow answer, counted."""
    try:
        reader = pa.ipc.open_stream(pa.PythonFile(response, "r"))
    except (pa.ArrowException, OSError):
        raise TableError("The service's answer is no Arrow stream.") from None

    def batches() -> Iterator[pa.RecordBatch]:
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                break
            except (pa.ArrowException, OSError):
                raise TableError("The service broke its answer off.") from None
            if "error" in batch.schema.names and batch["error"].null_count < len(batch):
                for row, error in enumerate(batch["error"].to_pylist()):
                    _count(tally, row, error)
            tally.rows += len(batch)
            yield batch
        if response.read(1):
            raise TableError("The service's answer goes on behind its end.")

    return reader.schema, batches()


def _lines(response: Answered, tally: Tally) -> Iterator[bytes]:
    """An NDJSON answer in blocks of whole lines, counted, without the summary at its end."""
    rest = b""
    while data := response.read(PIECE):
        whole, end, data = data.rpartition(b"\n")
        if end:
            yield from _block(rest + whole + end, tally)
            rest = b""
        rest += data
    if rest:
        raise TableError("The service broke its answer off.")


def _block(block: bytes, tally: Tally) -> Iterator[bytes]:
    body, _, last = block[:-1].rpartition(b"\n")
    if last.startswith(b'{"summary":'):
        said = msgspec.json.decode(last)["summary"]
        if "cut" in said:
            raise TableError(said["cut"])
        if not body:
            return
        block = body + b"\n"
    lines = block[:-1].split(b"\n")
    if b'"error":"' in block:
        for row, line in enumerate(lines):
            if not line.endswith(b'"error":null}'):
                _count(tally, row, msgspec.json.decode(line).get("error"))
    tally.rows += len(lines)
    yield block


def _count(tally: Tally, row: int, error: str | None) -> None:
    """Take in what an answer says of its row, in the words of the `error` column: `column: reason | ...`."""
    if error is None:
        return
    tally.bad += 1
    for fault in error.split(" | "):
        column, _, reason = fault.rpartition(": ")
        tally.total += 1
        if len(tally.faults) < LISTED:
            tally.faults.append(Fault(tally.rows + row, column, reason))


def _refusal(answered: Answered, tally: Tally | None, where: str) -> TableError:
    """What a problem+json says (see service/errors.py)."""
    status = answered.response.status
    try:
        problem = json.loads(answered.read(PIECE * 4))
        detail, errors, total = str(problem["detail"]), problem.get("errors") or [], problem.get("total") or 0
        places = [(error["pointer"].split("/")[1:], str(error["detail"])) for error in errors]
    except (ValueError, KeyError, TypeError, AttributeError):
        return TableError(f"{where}: no service of this kind, it answers {status} without a problem+json.")
    if (bad := BAD.match(detail)) and tally is not None:
        tally.bad, tally.rows, tally.total = int(bad[1]), int(bad[2]), total
        tally.faults = [Fault(int(row), _unescaped(*rest), reason) for (row, *rest), reason in places]
        return Refused(tally)
    said = "; ".join(": ".join(filter(None, (_unescaped(*place), reason))) for place, reason in places)
    if status != http.client.BAD_REQUEST:  # which says what is wrong with the table, and no more
        detail = f"The service answers {status}: {detail}"
    return TableError(said or detail)


def _unescaped(pointer: str = "", *_: str) -> str:
    return pointer.replace("~1", "/").replace("~0", "~")


def _said(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__).splitlines()[0].rstrip(".")
