"""Messages between the service and a worker: kind, length, content.

    from the service     from a worker
    TASK    a Task       ROWS    the number of rows in the shared memory
    SCORED  -            EVENT   a JSON object
                         PIECE   bytes of the response
                         DONE    a Done, which ends the task

The request's body has a pipe of its own for each task, whose descriptor comes with TASK.
"""

import mmap
import socket
import struct
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from patient.encoding import Floats
from patient.record import FIELDS

TASK, SCORED, ROWS, EVENT, PIECE, DONE = b"T", b"S", b"R", b"E", b"P", b"D"
HEAD = struct.Struct("<cI")
MAX_MESSAGE_BYTES = 2**24
MAX_ROWS = 32_768  # in the shared memory; few chunks have more


class Task(msgspec.Struct):
    """What a worker is to do. cpu_seconds: after which the kernel kills the worker."""

    job: str
    arguments: dict[str, Any]
    request_id: str
    cpu_seconds: int


class Done(msgspec.Struct):
    """The end of a task: its result, or its failure, either as the job's own JSON. None of both: a bug, now logged."""

    result: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None


class Closed(Exception):
    """The other process has ended, or closed its socket."""


def send(sock: socket.socket, kind: bytes, content: bytes | memoryview = b"", *descriptors: int) -> None:
    """Send a message through a blocking socket. Raises Closed."""
    try:
        socket.send_fds(sock, [HEAD.pack(kind, len(content))], descriptors)
        sock.sendall(content)
    except OSError:
        raise Closed from None


def receive(sock: socket.socket) -> tuple[bytes, bytearray]:
    """Receive a message through a blocking socket. Raises Closed."""
    kind, length = HEAD.unpack(_receive_exactly(sock, HEAD.size))
    if length > MAX_MESSAGE_BYTES:
        raise Closed
    return kind, _receive_exactly(sock, length)


def receive_task(sock: socket.socket) -> tuple[bytearray, int]:
    """Receive a TASK and the descriptor of the body's pipe. Raises Closed."""
    head, descriptors, _, _ = socket.recv_fds(sock, HEAD.size, 1)
    if len(head) < HEAD.size:
        raise Closed
    return _receive_exactly(sock, HEAD.unpack(head)[1]), descriptors[0]


def _receive_exactly(sock: socket.socket, size: int) -> bytearray:
    content = bytearray(size)
    view, done = memoryview(content), 0
    while done < size:
        try:
            received = sock.recv_into(view[done:], 0, socket.MSG_WAITALL)
        except OSError:
            received = 0
        if not received:
            raise Closed
        done += received
    return content


class SharedRows:
    """Memory that both processes have mapped: the worker writes rows, and the service their probabilities.

    descriptor: of a file of SIZE bytes
    """

    ROWS_SIZE = MAX_ROWS * 4 * len(FIELDS)
    SIZE = ROWS_SIZE + MAX_ROWS * 8

    def __init__(self, descriptor: int) -> None:
        self.memory = mmap.mmap(descriptor, self.SIZE)

    def columns(self, rows: int) -> Floats:
        """float32[13,n], a view."""
        return np.frombuffer(self.memory, np.float32, rows * len(FIELDS)).reshape(len(FIELDS), rows)

    def probabilities(self, rows: int) -> NDArray[np.float64]:
        """float64[n], a view."""
        return np.frombuffer(self.memory, np.float64, rows, self.ROWS_SIZE)
