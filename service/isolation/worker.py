"""The worker process: it runs one task after another. The model stays in the service."""

import logging
import os
import resource
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from patient.encoding import Floats
from service.isolation.messages import (
    DONE,
    EVENT,
    MAX_ROWS,
    PIECE,
    ROWS,
    Closed,
    Done,
    SharedRows,
    Task,
    receive,
    receive_task,
    send,
)
from service.observe.request_context import CURRENT, RequestContext

MAX_PIECE_BYTES = 2**18  # of a message, so that the service can send one on while the next is made

Buffer = bytes | memoryview
Job = Callable[[dict[str, Any], "Body", "Service"], Iterator[Buffer]]
Jobs = Mapping[str, Job]

log = logging.getLogger(__name__)


class JobFailed(Exception):
    """Raised by a job. failure: JSON that tells the service why."""

    def __init__(self, failure: dict[str, Any]) -> None:
        super().__init__()
        self.failure = failure


class Body:
    """The request's body, read from a pipe like a file."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes as soon as there are any; none at the end."""
        return os.read(self.descriptor, size)

    def readinto(self, view: memoryview, /) -> int:
        """Read into existing memory, as `read` does; return the number of bytes."""
        return os.readv(self.descriptor, [view])


class Service:
    """The service, as a job sees it. result: what the service gets when the job ends without a failure."""

    def __init__(self, sock: socket.socket, rows: SharedRows) -> None:
        self.sock, self.rows = sock, rows
        self.result: dict[str, Any] = {}

    def score(self, columns: Floats) -> NDArray[np.float64]:
        """Return the rounded probabilities float64[n] of float32[13,n]. Raises Closed if the service cannot."""
        count = columns.shape[1]
        found = np.empty(count, np.float64)
        for start in range(0, count, MAX_ROWS):
            part = slice(start, min(start + MAX_ROWS, count))
            size = part.stop - start
            self.rows.columns(size)[:] = columns[:, part]
            send(self.sock, ROWS, struct.pack("<I", size))
            receive(self.sock)
            found[part] = self.rows.probabilities(size)
        return found

    def tell(self, event: dict[str, Any]) -> None:
        send(self.sock, EVENT, msgspec.json.encode(event))


def run_tasks(control: int, memory: int, jobs: Jobs) -> None:
    """Run tasks until the service closes its socket."""
    sock, rows = socket.socket(fileno=control), SharedRows(memory)
    while True:
        content, body = receive_task(sock)
        task = msgspec.json.decode(content, type=Task)
        CURRENT.set(RequestContext(task.request_id.encode()))  # for the log
        _limit_cpu(task.cpu_seconds)
        service = Service(sock, rows)
        try:
            for piece in jobs[task.job](task.arguments, Body(body), service):
                view = memoryview(piece)
                for start in range(0, len(view), MAX_PIECE_BYTES):
                    send(sock, PIECE, view[start : start + MAX_PIECE_BYTES])
            done = Done(service.result)
        except Closed:
            raise
        except JobFailed as error:
            done = Done(service.result, error.failure)
        except Exception:
            log.exception("a job failed")
            done = Done()
        os.close(body)
        send(sock, DONE, msgspec.json.encode(done))


def _limit_cpu(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds + 1, hard))
