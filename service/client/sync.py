"""The synchronous client."""

import ssl
from collections.abc import Iterable

from service.client import calls
from service.client.calls import Record
from service.client.sender import Sender
from service.client.tables import OnError, Scored, Table, TableCall, score
from service.client.transport import Cancellation
from service.records.schema import BatchPrediction, Explanation, Prediction, Ready, Served

LOCAL = "http://127.0.0.1:8000"


class Client:
    """A client of the service, for any number of threads; it keeps connections. Close it, or use `with`.

    A prediction changes nothing, so failures are retried: connections that are refused or cut off, and responses with
    Retry-After. Pauses between attempts grow and are random.

    url: of the service; https:// needs a certificate that `context`, by default the system's, trusts
    key: API key, if the service requires one
    timeout: seconds that one attempt waits for a connection, or for the next bytes of the response
    deadline: seconds for all attempts of a call; for a table, until the last attempt begins
    retry: whether there is more than one attempt

    Every call raises ServiceError (see service/client/errors.py). `request_id` is the request's id in the service's
    log and in exceptions, up to 128 letters, digits and _.:- ; by default a random one.
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
        self._sender = Sender(url, key, timeout, deadline, context, retry)

    def predict(self, record: Record, *, request_id: str | None = None) -> Prediction:
        """Predict for one patient: a PatientRecord, or a mapping with all 13 fields, None = not taken."""
        return self._sender.send(calls.predict(record), request_id, Cancellation())

    def predict_batch(self, records: Iterable[Record], *, request_id: str | None = None) -> BatchPrediction:
        """Predict for several patients, by default at most 10,000; `score` takes more."""
        return self._sender.send(calls.predict_batch(records), request_id, Cancellation())

    def explain(self, record: Record, *, request_id: str | None = None) -> Explanation:
        """Explain the prediction for one patient: the contribution of each measurement, and counterfactuals."""
        return self._sender.send(calls.explain(record), request_id, Cancellation())

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
        """Score a table of any size and return the results as a file; the table is sent while the file is read.

        table: a path, a binary file, bytes, or an iterable of bytes
        kind: the table's format, such as csv, ndjson.gz or parquet; by default from the path's suffix
        to: the format of the results, by default the same
        keep: other columns to pass through, "*" for all
        on_error: "refuse" the table for one invalid row, or "report" it in its place (see README, Tables)
        """
        return score(self._sender, TableCall(table, kind, to, keep, on_error), request_id, Cancellation())

    def model(self, *, request_id: str | None = None) -> Served:
        """Return the metadata of the model file: fields, training data, metrics, libraries."""
        return self._sender.send(calls.MODEL, request_id, Cancellation())

    def ready(self, *, request_id: str | None = None) -> Ready:
        """Wait until the service is ready, up to the client's deadline; return its model version and provider."""
        return self._sender.send(calls.READY, request_id, Cancellation())

    def close(self) -> None:
        """Close the connections. The client cannot be used afterwards."""
        self._sender.pool.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
