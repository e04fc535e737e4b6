"""Tables through a service that runs elsewhere: the file goes to POST /predict/batch as it is.

The answer comes as an Arrow stream and is written here, so that a file is the same whoever answered; from JSON to JSON
it comes as NDJSON, which alone brings kept values back as they were.
"""

import hashlib
import http.client
import json
import re
from collections.abc import Iterator
from io import BytesIO
from urllib.parse import urlencode, urlsplit

import msgspec
import pyarrow as pa
from pydantic import ValidationError

from patient.artefact import Metadata
from service.cli.attempt import said
from service.cli.duplex import Answered
from service.cli.job import LIMITS, Buffer, Job, Kind, Part, Usage
from service.records.errors import MAX_LISTED_ERRORS, InvalidRows, RecordError, RowFault, TableError, Tally
from service.settings import Client
from service.tables.formats import ARROW, NDJSON
from service.tables.scoring import result_schema
from service.tables.source import READ_BYTES, Source, open_source

CONNECT = 10.0  # seconds
EMPTY = "The batch is empty"  # how the service's refusal begins
BAD = re.compile(r"(\d+) of (\d+) rows failed validation\.")


class Remote:
    """An Engine. Raises Usage for a URL that is none, SettingsError for a key that is none, and TableError where no
    service answers."""

    def __init__(self, url: str, job: Job) -> None:
        found = urlsplit(url)
        if found.scheme not in ("http", "https") or not found.hostname or found.query or found.fragment:
            raise Usage("--url: a service's address, such as http://127.0.0.1:8000")
        self.secure, self.host, self.port = found.scheme == "https", found.hostname, found.port
        self.path, self.job = found.path.rstrip("/"), job
        key = Client.from_environment().key
        self.key = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        with self._asked("GET", "/model", {}, None) as response:
            content = response.read()
        try:
            self.metadata = Metadata.model_validate_json(content)
        except ValidationError:
            raise TableError(f"{self.host}: no service of this kind.") from None
        self.version = self.metadata.version
        self.identity = f"version {self.version}, {hashlib.sha256(content).hexdigest()}, behind HTTP"

    def answer(self, source: Source, part: Part, tally: Tally) -> Iterator[Buffer]:
        """See Engine."""
        seen = _Seen(source)
        try:
            yield from self._answer(seen, part, tally)
        except TableError as error:
            if not str(error).startswith(EMPTY):
                raise
            # The service refuses a table without rows; a folder may well hold one.
            came, limits = Kind(part.came), LIMITS
            table = came.format.read(open_source(BytesIO(seen.first), came.packing, limits), self.job.keep, limits)
            list(table.chunks)  # none, but a temporary file may be closed only then
            out = result_schema(table.kept, self, self.job.report)  # type: ignore[arg-type]  # which asks but for what we know
            yield from Kind(part.to).write(out, [], pipe=part.target == "-")

    def _answer(self, source: Source, part: Part, tally: Tally) -> Iterator[Buffer]:
        came, to = Kind(part.came), Kind(part.to)
        answer = NDJSON if came.format.is_json and to.format.is_json else ARROW
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
            model = f'"model_version":{json.dumps(self.version)},"threshold":{response.headers["X-Threshold"]}'
            yield f'{{{model},"predictions":['.encode()
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
            for name, value in (headers | self.key | ({"Transfer-Encoding": "chunked"} if body else {})).items():
                connection.putheader(name, value)
            connection.endheaders()
            answered = Answered(connection, method, body)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise TableError(f"No service answers at {where}: {said(error)}.") from None
        if answered.response.status != http.client.OK:
            with answered:
                raise _refusal(answered, tally, where)
        return answered


class _Seen:
    """A source whose first bytes are remembered."""

    def __init__(self, source: Source) -> None:
        self.source, self.first = source, b""

    def read(self, size: int, /) -> bytes:
        """See Source."""
        data = self.source.read(size)
        if len(self.first) < READ_BYTES:
            self.first += data
        return data


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
    while data := response.read(READ_BYTES):
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
        if cut := msgspec.json.decode(last)["summary"].get("cut"):
            raise TableError(cut)
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
        if len(tally.faults) < MAX_LISTED_ERRORS:
            tally.faults.append(RowFault(tally.rows + row, column, reason))


def _refusal(answered: Answered, tally: Tally | None, where: str) -> RecordError:
    """What a problem+json says (see service/errors.py)."""
    status = answered.response.status
    try:
        problem = json.loads(answered.read(READ_BYTES * 4))
        detail, errors, total = str(problem["detail"]), problem.get("errors") or [], problem.get("total") or 0
        places = [(error["pointer"].split("/")[1:], str(error["detail"])) for error in errors]
    except (ValueError, KeyError, TypeError, AttributeError):
        return TableError(f"{where}: no service of this kind, it answers {status} without a problem+json.")
    if (bad := BAD.match(detail)) and tally is not None:
        tally.bad, tally.rows, tally.total = int(bad[1]), int(bad[2]), total
        tally.faults = [RowFault(int(row), _unescaped(*rest), reason) for (row, *rest), reason in places]
        return InvalidRows(tally)
    listed = "; ".join(": ".join(filter(None, (_unescaped(*place), reason))) for place, reason in places)
    if status != http.client.BAD_REQUEST:  # which says what is wrong with the table, and no more
        detail = f"The service answers {status}: {detail}"
    return TableError(listed or detail)


def _unescaped(pointer: str = "", *_: str) -> str:
    return pointer.replace("~1", "/").replace("~0", "~")
