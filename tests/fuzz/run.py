"""Send random requests to a service and check the responses: `python -m tests.fuzz.run damage|structure COUNT`."""

import argparse
import contextlib
import http.client
import json
import random
import re
import select
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from patient.record import EXAMPLE
from tests.e2e.serving import get, serving
from tests.faults.machine import descriptors, memory, until
from tests.fuzz import bodies, structure
from tests.fuzz.bodies import Request

MAKERS: dict[str, Callable[[random.Random], Request]] = {"damage": bodies.request, "structure": structure.request}
WARM_UP = 0.3  # the share of requests after which memory should not grow
CUT_OFF = 0  # instead of a status: the connection ended without one
SILENT = -1  # instead of a status: no response came in time
HONEST = 10**15  # instead of a seed
SECONDS = 60  # that a response may take
CRASHED = b"The table is damaged, or to read it takes more than"  # its worker has ended


@dataclass
class Found:
    """Counts by status; `faults`: the status by seed of requests with another one than 2xx or 4xx, or with a bug."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: dict[int, int] = field(default_factory=dict)
    crashes: list[int] = field(default_factory=list)  # seeds of tables that ended their workers
    signals: Counter[str] = field(default_factory=Counter)  # by which they were ended
    grown: float = 0  # MiB, after the warm-up
    descriptors: int = 0  # more than before
    seconds: float = 0
    slowest: tuple[float, int] = (0, 0)  # seconds and seed


def encode(wanted: Request, seed: int) -> bytes:
    """The request as it is sent. Its id is its seed, so that the service's log names it."""
    head = [f"POST {wanted.path} HTTP/1.1", "Host: localhost", f"X-Request-ID: {seed}"]
    head += [f"{name}: {value}" for name, value in wanted.headers]
    return "\r\n".join([*head, "", ""]).encode() + wanted.body


class Client:
    """A client that keeps its connection as long as both sides are in step."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connection: socket.socket | None = None

    def send(self, wanted: Request, seed: int) -> tuple[int, bytes]:
        """Send a request; return the response's status, CUT_OFF or SILENT, and its body as far as it came."""
        status, content, is_in_step = CUT_OFF, b"", False
        if self.connection and select.select([self.connection], [], [], 0)[0]:  # the service closed it: it was idle
            self.close()
        try:
            self.connection = self.connection or socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)
            self.connection.sendall(encode(wanted, seed))
            if not wanted.is_honest:
                self.connection.shutdown(socket.SHUT_WR)
            response = http.client.HTTPResponse(self.connection, method="POST")
            response.begin()
            status = response.status
            with contextlib.suppress(http.client.IncompleteRead):  # a response may be cut off once it has begun
                content = response.read()
                is_in_step = wanted.is_honest and status < 500 and not response.will_close
        except TimeoutError:
            status = SILENT
        except (OSError, http.client.HTTPException):
            pass
        if not is_in_step:
            self.close()
        return status, content

    def close(self) -> None:
        if self.connection:
            self.connection.close()
            self.connection = None


def fuzz(kind: str, count: int, seed: int = 0) -> Found:
    """Send `count` requests. Raises AssertionError if the service dies, or does not work as before afterwards."""
    found = Found()
    flags = ("--max-spool", str(2**28), "--max-stall", "5", "--max-seconds", str(SECONDS // 2), "--log-level", "error")
    with tempfile.TemporaryFile() as log, serving(*flags, log=log) as (port, server):
        client = Client(port)
        expected = honest(client)
        before, warm, begun = descriptors(server), 0.0, time.monotonic()
        for number in range(seed, seed + count):
            wanted = MAKERS[kind](random.Random(number))  # reproducible by its seed
            since = time.monotonic()
            status, content = client.send(wanted, number)
            found.slowest = max(found.slowest, (time.monotonic() - since, number))
            found.statuses[status] += 1
            found.crashes += [number] * (status == 413 and CRASHED in content)
            if not (200 <= status < 300 or 400 <= status < 500 or (status == CUT_OFF and not wanted.is_honest)):
                found.faults[number] = status
            if number == seed + int(count * WARM_UP):
                warm = memory(server, "VmRSS")
            assert Path(f"/proc/{server}").exists(), f"the service died of seed {number}"
        until(lambda: re.search(r"^heart_streams 0", get(port, "/metrics"), re.MULTILINE) is not None)
        assert honest(client) == expected
        client.close()
        found.seconds = time.monotonic() - begun
        found.grown = memory(server, "VmRSS") - warm
        found.descriptors = descriptors(server) - before
        log.seek(0)
        for line in map(json.loads, log):
            if "exception" in line:  # also of a response that had begun, and is cut off
                found.faults.setdefault(int(line.get("request_id", HONEST)), 500)
            found.signals.update(re.findall(r"worker was ended by (\w+)", line["message"]))
    return found


def honest(client: Client) -> bytes:
    """The response to a valid table."""
    body = json.dumps([EXAMPLE]).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    status, content = client.send(Request("/predict/batch?on_error=report", body, headers), HONEST)
    assert status == 200, content
    return content


def main() -> int:
    """Fuzz and print the results; 1 if there were faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=MAKERS)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path(".fuzz/found"), help="for requests that failed")
    arguments = parser.parse_args()
    found = fuzz(arguments.kind, arguments.count, arguments.seed)
    statuses = ", ".join(f"{status}: {times:,}" for status, times in sorted(found.statuses.items()))
    sys.stdout.write(
        f"{arguments.count:,} bodies in {found.seconds:.0f} s; {statuses} (0: other bytes came than were announced)\n"
        f"memory {found.grown:+.0f} MiB after the first {WARM_UP:.0%}, descriptors {found.descriptors:+d}\n"
        f"slowest response {found.slowest[0]:.1f} s (seed {found.slowest[1]})\n"
        f"workers ended: {len(found.crashes)} {dict(found.signals)}, seeds {found.crashes}\n"
    )
    for seed, status in found.faults.items():
        sys.stdout.write(f"seed {seed}: {status}\n")
    for seed in (*found.faults, *found.crashes):
        arguments.folder.mkdir(parents=True, exist_ok=True)
        wanted = MAKERS[arguments.kind](random.Random(seed))
        (arguments.folder / f"{arguments.kind}-{seed}").write_bytes(encode(wanted, seed))
    return bool(found.faults) or found.descriptors > 5


if __name__ == "__main__":
    sys.exit(main())
