"""The service's side: start workers, lend them, and end them."""

import atexit
import contextlib
import fcntl
import logging
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from typing import IO, Any

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
    SCORED,
    TASK,
    Closed,
    Done,
    SharedRows,
    Task,
    receive,
    send,
)
from service.isolation.template import ENVIRONMENT, FORK, KILL, ORDER
from service.settings import Settings

MAX_TASKS = 256  # of a worker, which then gives way to a new one: no library's leak can add up

Score = Callable[[Floats], NDArray[np.float64]]  # float32[13,n] to float64[n]
OnEvent = Callable[[dict[str, Any]], object]

log = logging.getLogger(__name__)


class WorkerEnded(Exception):
    """The worker ended in the middle of its task: killed by the service or by a limit, or crashed."""


class Worker:
    """One worker process, lent to one task at a time."""

    def __init__(self, template: "Template", memory_bytes: int) -> None:
        self.template, self.memory_bytes = template, memory_bytes
        self.tasks, self.is_killed = 0, False
        self.control, theirs = socket.socketpair()
        with theirs, _anonymous_file(SharedRows.SIZE) as file:
            self.rows = SharedRows(file.fileno())
            self.number = template.fork(memory_bytes, theirs.fileno(), file.fileno())

    def run(self, task: Task, body: int, score: Score, on_event: OnEvent) -> Iterator[bytearray | Done]:
        """Run a task; yield the pieces of its response, and at last Done. For a thread of its own.

        body: descriptor of a pipe, which is closed here. Raises WorkerEnded, and what `score` raises.
        """
        self.tasks += 1
        try:
            try:
                send(self.control, TASK, msgspec.json.encode(task), body)
            finally:
                os.close(body)
            while True:
                kind, content = receive(self.control)
                if kind == ROWS:
                    rows = min(int.from_bytes(content, "little"), MAX_ROWS)
                    self.rows.probabilities(rows)[:] = score(self.rows.columns(rows))
                    send(self.control, SCORED)
                elif kind == PIECE:
                    yield content
                elif kind == EVENT:
                    on_event(msgspec.json.decode(content))
                elif kind == DONE:
                    yield msgspec.json.decode(content, type=Done)
                    return
        except Closed:
            raise WorkerEnded from None

    def kill(self) -> None:
        """End the process, whatever it does. Its task's `run` raises WorkerEnded."""
        self.is_killed = True
        self.template.kill(self.number)
        with contextlib.suppress(OSError):
            self.control.shutdown(socket.SHUT_RDWR)  # wakes a thread in `run`, even if the template is gone


def _anonymous_file(size: int) -> IO[bytes]:
    """A file to map, in memory where the system has such: writing to a mapped file on a full disk kills a process.

    So does access to a mapped file that a worker has made smaller, so its size is sealed.
    """
    if sys.platform != "linux":
        file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
        file.truncate(size)
        return file
    file = os.fdopen(os.memfd_create("rows", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b")
    file.truncate(size)
    fcntl.fcntl(file.fileno(), fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return file


class Template:
    """The template process, which makes and ends workers. Started at the first one, and again if it was killed.

    jobs: name of the module whose JOBS the workers run
    """

    def __init__(self, jobs: str, settings: Settings) -> None:
        self.jobs, self.settings = jobs, settings
        self.orders: socket.socket | None = None
        self.numbers = count()
        self.process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def fork(self, memory_bytes: int, *descriptors: int) -> int:
        """Order a worker that gets these descriptors; return its number."""
        number = next(self.numbers)
        order = ORDER.pack(FORK, number, memory_bytes)
        try:
            socket.send_fds(self._connected(), [order], descriptors)
        except OSError:  # it was killed, and its workers with it
            self.close()
            socket.send_fds(self._connected(), [order], descriptors)
        return number

    def kill(self, number: int) -> None:
        with contextlib.suppress(OSError):  # without a template no worker lives
            if self.orders:
                self.orders.sendall(ORDER.pack(KILL, number, 0))

    def close(self) -> None:
        """End the template and all workers."""
        if self.orders and self.process:
            self.orders.close()
            self.process.kill()
            self.process.wait()
            self.orders = None

    def _connected(self) -> socket.socket:
        if self.orders is None:
            self.orders, theirs = socket.socketpair()
            with theirs:
                self.process = subprocess.Popen(
                    [
                        *(sys.executable, "-c", "from service.isolation.template import main; main()"),
                        *(str(theirs.fileno()), self.jobs, self.settings.model_dump_json()),
                    ],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # signals to the service's group, such as Ctrl-C, are not for it
                    env=os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(sys.path)},
                )
        return self.orders


_templates: dict[str, Template] = {}


def shared_template(jobs: str, settings: Settings) -> Template:
    """The only template of this process for these jobs; the settings of the first call count."""
    if jobs not in _templates:
        _templates[jobs] = Template(jobs, settings)
    return _templates[jobs]


class WorkerPool:
    """Lends workers, and keeps them for the next task. For the event loop's thread.

    memory_bytes: that a task may take
    """

    def __init__(self, template: Template, memory_bytes: int) -> None:
        self.template, self.memory_bytes = template, memory_bytes
        self.idle: list[Worker] = []
        self.lent: set[Worker] = set()

    def take(self) -> Worker:
        """Lend a worker that waits, or a new one."""
        while self.idle:
            worker = self.idle.pop()
            if _is_alive(worker):
                break
            _end(worker)
        else:
            worker = Worker(self.template, self.memory_bytes)
        self.lent.add(worker)
        return worker

    def give_back(self, worker: Worker, is_reusable: bool) -> None:
        """Take a worker back. is_reusable: its task has ended."""
        self.lent.discard(worker)
        if is_reusable and not worker.is_killed and worker.tasks < MAX_TASKS:
            self.idle.append(worker)
        else:
            _end(worker)

    def close(self) -> None:
        """End all workers."""
        for worker in (*self.idle, *self.lent):
            _end(worker)
        self.idle.clear()
        self.lent.clear()


def _end(worker: Worker) -> None:
    worker.kill()
    worker.control.close()


def _is_alive(worker: Worker) -> bool:
    try:
        return worker.control.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
