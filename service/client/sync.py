"""The client for threads."""

import ssl
from collections.abc import Iterable

from service.client import calls
from service.client.calls import Record
from service.client.core import Core
from service.client.tables import Asked, OnError, Scored, Table, score
from service.client.transport import Stop
from service.records.schema import BatchPrediction, Explanation, Prediction, Ready, Served

LOCAL = "http://127.0.0.1:8000"


class Client:
    """Asks a service; one client serves any number of threads, and keeps its connections. Close it, or use `with`.

    A prediction changes nothing, so whatever fails before there is an answer is tried again: connections that are
    refused or break off, and a service that says when to come back. Pauses grow, and differ among clients.

    url: of the service; https:// needs a certificate that `context`, or by default this machine, trusts
    key: of the service, where it needs one
    timeout: seconds that one attempt waits for a connection, or for the next bytes of an answer
    deadline: seconds for all attempts of a call; of a table, until the last one begins
    retry: whether there is more than one attempt

    Every call raises ServiceError (see service/client/errors.py). `request_id` is the id under which the service's log
    speaks of the request, up to 128 letters, digits and _.:- ; by default a new one. Exceptions tell it.
    """

    def __init__(
        self,
        url: str = LOCAL,
        *,
        key: str | None = None,
        timeout: float = 10,
        deadline: float = 30,
        context: ssl.SSLContext | None = None,
        retry: bool = True,
    ) -> None:
        self._core = Core(url, key, timeout, deadline, context, retry)

    def predict(self, record: Record, *, request_id: str | None = None) -> Prediction:
        """The probability for one patient: a PatientRecord, or a mapping with all 13 fields, None = not taken."""
        return self._core.do(calls.predict(record), request_id, Stop())

    def predict_batch(self, records: Iterable[Record], *, request_id: str | None = None) -> BatchPrediction:
        """The same for several, at most 10,000 unless the service is set otherwise; `score` takes more."""
        return self._core.do(calls.predict_batch(records), request_id, Stop())

    def explain(self, record: Record, *, request_id: str | None = None) -> Explanation:
        """What each measurement adds to the answer for one patient, and what would change it."""
        return self._core.do(calls.explain(record), request_id, Stop())

    def score(
        self,
        table: Table,
        *,
        kind: str | None = None,
        to: str | None = None,
        keep: str | Iterable[str] = (),
        on_error: OnError | None = None,
        request_id: str | None = None,
    ) -> Scored:
        """The answers to a table of any size, as a file to read from; the table is sent while it is read.

        table: a path, a binary file, bytes, or pieces of bytes
        kind: its format, such as csv, ndjson.gz or parquet, where no path's end tells it
        to: that of the answers, by default the same
        keep: other columns to pass through, "*" for all
        on_error: refuse the table for one bad row, or report it in place (see README, Tables)
        """
        return score(self._core, Asked(table, kind, to, keep, on_error), request_id, Stop())

    def model(self, *, request_id: str | None = None) -> Served:
        """What lies in the model file: fields, training data, scores, libraries."""
        return self._core.do(calls.MODEL, request_id, Stop())

    def ready(self, *, request_id: str | None = None) -> Ready:
        """With what the service answers, as soon as it can: a client's deadline is how long it waits for that."""
        return self._core.do(calls.READY, request_id, Stop())

    def close(self) -> None:
        """Close the connections; nothing can be asked any more."""
        self._core.pool.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
