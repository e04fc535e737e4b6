"""Share the places of a limit among clients."""

import ipaddress
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic

from starlette.types import Scope

from service.http.problems import busy
from service.observe.metrics import Gauge, Metrics

SHARING_SECONDS = 60  # after a request of another client, in which a client may hold half of the places
IPV6_NETWORK = slice(19)  # of an exploded address: 64 bits, any of whose addresses one machine may use


class Places:
    """At most `total` tasks at once; beyond that `place` raises Problem 503, counted as an overload.

    A client may hold all places while it is the only one, as a proxy is for all that are behind it. Once another has
    asked within SHARING_SECONDS, each may hold half of them, rounded up. And a client that holds none may take one more
    than there are: so none can keep out the next, however long its own tasks take.

    refusal: the error's detail when all places are taken; tasks: what a client has too many of;
    gauge: the metric of the number of tasks
    """

    def __init__(self, total: int, refusal: str, tasks: str, metrics: Metrics, gauge: Gauge) -> None:
        self.total, self.refusal, self.tasks, self.metrics, self.gauge = total, refusal, tasks, metrics, gauge
        self.half = (total + 1) // 2
        self.taken = 0
        self.held = Counter[str]()  # by client, without zeros
        self.latest_client = ""
        self.latest_time = self.others_time = -inf  # when the latest client asked last, and when any other did

    @contextmanager
    def place(self, client: str) -> Iterator[None]:
        self._note(client)
        if not self.has_share(client):
            self.metrics.record_overload()
            limit = f"at most {self.half} while other clients send requests"
            raise busy(f"This client already has {self.held[client]} {self.tasks}: {limit}.")
        if self.is_full(client):
            self.metrics.record_overload()
            raise busy(self.refusal)
        self._move(client, 1)
        try:
            yield
        finally:
            self._move(client, -1)

    def has_share(self, client: str) -> bool:
        """Whether a client holds fewer places than it may."""
        others = self.others_time if client == self.latest_client else self.latest_time
        return self.held[client] < self.half or monotonic() - others > SHARING_SECONDS

    def is_full(self, client: str) -> bool:
        """Whether no place is left for a client."""
        return self.taken >= self.total + (self.held[client] == 0)

    def _note(self, client: str) -> None:
        if client != self.latest_client:
            self.latest_client, self.others_time = client, self.latest_time
        self.latest_time = monotonic()

    def _move(self, client: str, change: int) -> None:
        self.taken += change
        self.held[client] += change
        if not self.held[client]:
            del self.held[client]
        self.metrics.set_gauge(self.gauge, self.taken)


def client_of(scope: Scope) -> str:
    """The name of a request's API key where keys are required, else the client's address, or its IPv6 network."""
    if key := scope.get("key"):
        return str(key)
    host: str = (scope.get("client") or [""])[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # not an internet address
        return host
    if address.version == 4:
        return host
    return str(address.ipv4_mapped or address.exploded[IPV6_NETWORK])
