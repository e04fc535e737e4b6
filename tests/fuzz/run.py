"""Send random requests to a service and check the responses: `python -m tests.fuzz.run COUNT`."""

import argparse
import contextlib
import http.client
import random
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.serving import get, serving
from tests.faults.machine import descriptors, memory
from tests.fuzz.bodies import Request, request

WARM_UP = 0.3  # the share of requests after which memory should not grow
CUT_OFF = 0  # instead of a status: the connection ended without one


@dataclass
class Found:
    """Counts by status; `faults`: the status by seed, for requests with a status other than 2xx or 4xx."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: dict[int, int] = field(default_factory=dict)
    grown: float = 0  # MiB, after the warm-up
    descriptors: int = 0  # more than before
    seconds: float = 0


def send(connection: http.client.HTTPConnection, wanted: Request) -> int:
    """Send a request and read the response; return its status, or CUT_OFF."""
    connection.putrequest("POST", wanted.path)
    for name, value in wanted.headers.items():
        connection.putheader(name, value.encode("latin-1"))
    connection.putheader("Content-Length", str(len(wanted.body) + wanted.missing))
    status = CUT_OFF
    try:
        connection.endheaders()
        connection.sock.sendall(wanted.body)
        if wanted.missing:
            connection.sock.shutdown(socket.SHUT_WR)
        response = connection.getresponse()
        status = response.status
        with contextlib.suppress(http.client.IncompleteRead):  # a response may be cut off once it has begun
            response.read()
            if status < 500 and not wanted.missing:  # after a fault the server closes
                return status
    except (OSError, http.client.HTTPException):
        pass
    connection.close()
    return status


def fuzz(count: int, seed: int = 0) -> Found:
    """Send `count` requests. Raises AssertionError if the service dies."""
    found = Found()
    with serving("--max-spool", str(2**28), "--max-stall", "5", "--log-level", "error") as (port, server):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        before, warm, begun = descriptors(server), 0.0, time.monotonic()
        for number in range(count):
            wanted = request(random.Random(seed + number))  # reproducible by its seed
            status = send(connection, wanted)
            found.statuses[status] += 1
            if not (200 <= status < 300 or 400 <= status < 500 or (status == CUT_OFF and wanted.missing)):
                found.faults[seed + number] = status
            if number == int(count * WARM_UP):
                warm = memory(server, "VmRSS")
            assert Path(f"/proc/{server}").exists(), f"the service died of seed {seed + number}"
        connection.close()
        get(port, "/health/ready")
        found.seconds = time.monotonic() - begun
        found.grown = memory(server, "VmRSS") - warm
        found.descriptors = descriptors(server) - before
    return found


def main() -> int:
    """Fuzz and print the results; 1 if there were faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found = fuzz(arguments.count, arguments.seed)
    statuses = ", ".join(f"{status}: {times:,}" for status, times in sorted(found.statuses.items()))
    sys.stdout.write(
        f"{arguments.count:,} bodies in {found.seconds:.0f} s; {statuses} (0: announced more than came)\n"
        f"memory {found.grown:+.0f} MiB after the first {WARM_UP:.0%}, descriptors {found.descriptors:+d}\n"
    )
    for seed, status in found.faults.items():
        sys.stdout.write(f"seed {seed}: {status}\n")
    return bool(found.faults)


if __name__ == "__main__":
    sys.exit(main())
