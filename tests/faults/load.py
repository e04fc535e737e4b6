"""Clients that ask without a pause while something breaks, and what became of each of their requests."""

import asyncio
import threading
import time
from collections import Counter
from types import TracebackType

from patient.record import EXAMPLE
from tests.e2e.serving import Connection

PAUSE = 0.01  # seconds before a lost connection is made again


class Load:
    """A context manager: so many clients ask for the same patient on keep-alive connections, in a thread of their own.

    statuses: of what was answered; wrong: answers of 200 with another probability; cut: requests that were sent and not
    answered; refused: connections that were not accepted; gap: the longest time in which nobody was answered, seconds
    """

    def __init__(self, port: int, probability: float, clients: int = 8) -> None:
        self.port, self.probability, self.clients = port, probability, clients
        self.statuses: Counter[int] = Counter()
        self.wrong = self.cut = self.refused = 0
        self.gap, self.latest = 0.0, time.monotonic()
        self.until = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._work()))

    def __enter__(self) -> "Load":
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Every client ends once what it has asked is answered."""
        self.until.set()
        self.thread.join()

    @property
    def answered(self) -> int:
        """Requests with any answer."""
        return sum(self.statuses.values())

    async def _work(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(self.clients)))

    async def _client(self) -> None:
        while not self.until.is_set():
            try:
                connection = await Connection.to(self.port)
            except OSError:
                self.refused += 1
                await asyncio.sleep(PAUSE)
                continue
            try:
                while not self.until.is_set() and await self._ask(connection):
                    pass
            except (OSError, asyncio.IncompleteReadError):
                self.cut += 1
            finally:
                connection.close()

    async def _ask(self, connection: Connection) -> bool:
        """One request; whether the connection stays."""
        status, headers, body = await connection.post("/predict", EXAMPLE)
        self.statuses[status] += 1
        self.wrong += status == 200 and abs(body["probability"] - self.probability) > 1e-6
        now = time.monotonic()
        self.gap, self.latest = max(self.gap, now - self.latest), now
        return headers.get("connection") != "close"
