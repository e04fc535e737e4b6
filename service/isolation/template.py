"""The template process: it imports everything once, and forks a worker in milliseconds whenever the service asks.

It has one thread, so a fork is safe, and it reads only the service's orders. When the service ends, even by
SIGKILL, the template reads the end of its socket and ends too; the kernel then kills the workers.
"""

import contextlib
import gc
import json
import logging
import os
import resource
import signal
import socket
import struct
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

from service.isolation.messages import Closed
from service.isolation.worker import Jobs, run_tasks
from service.lifetime import end_with_parent
from service.observe import log as logs

FORK, KILL = b"F", b"K"
ORDER = struct.Struct("<cQQ")  # kind, number of the worker, bytes of memory that it may use for a task
PRIORITY = 5  # on a busy core the service comes first
ENVIRONMENT = {  # no threads
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}

log = logging.getLogger(__name__)


class Template:
    """The workers by number, as process ids."""

    def __init__(self, orders: socket.socket, jobs: Jobs) -> None:
        self.orders, self.jobs = orders, jobs
        self.workers: dict[int, int] = {}
        signal.signal(signal.SIGCHLD, self.reap)

    def run(self) -> None:
        """Follow orders until the service has ended."""
        while True:
            order, descriptors, _, _ = socket.recv_fds(self.orders, ORDER.size, 2)
            if len(order) < ORDER.size:
                return
            kind, number, memory_bytes = ORDER.unpack(order)
            if kind == FORK:
                self.fork(number, memory_bytes, *descriptors)
            elif number in self.workers:
                os.kill(self.workers[number], signal.SIGKILL)

    def fork(self, number: int, memory_bytes: int, control: int, memory: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])  # until the process is known
        process = os.fork()
        if not process:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            self.orders.close()
            _restrict(memory_bytes)
            with contextlib.suppress(Closed):
                run_tasks(control, memory, self.jobs)
            os._exit(0)
        self.workers[number] = process
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        os.close(control)
        os.close(memory)

    def reap(self, *_: object) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                number = next(number for number, process in self.workers.items() if process == ended[0])
                del self.workers[number]
                if os.WIFSIGNALED(ended[1]) and (by := os.WTERMSIG(ended[1])) != signal.SIGKILL:
                    log.error("a table worker was ended by %s", signal.Signals(by).name)


def main() -> None:
    """Follow the orders on socket argv[1]; the jobs are JOBS in module argv[2], the settings JSON in argv[3]."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # which whole groups of processes get
        signal.signal(ignored, signal.SIG_IGN)
    logs.to_stderr(SimpleNamespace(**json.loads(sys.argv[3])), in_background=False)  # type: ignore[arg-type]
    jobs: Jobs = import_module(sys.argv[2]).JOBS
    gc.collect()
    gc.freeze()  # so that a worker's collector does not touch, and thereby copy, the pages that it shares
    Template(socket.socket(fileno=int(sys.argv[1])), jobs).run()


def _restrict(memory_bytes: int) -> None:
    """Limit this worker: its memory, no core dumps, killed with the template, and killed first when memory is short."""
    end_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):  # a container may forbid both
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
        Path("/proc/self/oom_score_adj").write_text("1000")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main()
