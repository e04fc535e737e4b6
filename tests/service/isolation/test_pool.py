"""Workers do their tasks, and whatever becomes of one, the next task finds a good one."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from patient.encoding import Floats
from service.isolation.messages import MAX_ROWS, Done, Task
from service.isolation.pool import MAX_TASKS, Template, Worker, WorkerEnded, WorkerPool
from service.settings import Settings
from tests.faults.machine import until

MIB = 2**20
JOBS = "tests.service.isolation.jobs"


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    template = Template(JOBS, Settings(log_format="json"))
    yield template
    template.close()


@pytest.fixture
def pool(template: Template) -> Iterator[WorkerPool]:
    pool = WorkerPool(template, 64 * MIB)
    yield pool
    pool.close()


class Run:
    """What a task gave."""

    def __init__(
        self, worker: Worker, job: str, arguments: dict[str, Any] | None = None, body: bytes = b"", cpu: int = 60
    ) -> None:
        self.events: list[dict[str, Any]] = []
        self.response = bytearray()
        self.done: Done | None = None
        read_end, write_end = os.pipe()
        sender = threading.Thread(target=_write, args=(write_end, body))
        sender.start()
        try:
            for piece in worker.run(Task(job, arguments or {}, "id", cpu), read_end, _halves, self.events.append):
                if isinstance(piece, Done):
                    self.done = piece
                else:
                    self.response += piece
        finally:
            sender.join()

    @property
    def result(self) -> dict[str, Any]:
        assert self.done
        assert self.done.result is not None
        return self.done.result


def _write(descriptor: int, body: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), open(descriptor, "wb", buffering=0) as pipe:
        view = memoryview(body)
        while view:
            view = view[pipe.write(view) :]


def _halves(columns: Floats) -> NDArray[np.float64]:
    """Half of the first field."""
    first: NDArray[np.float64] = columns[0].astype(np.float64)
    return first / 2


def children(process: int) -> list[int]:
    found = subprocess.run(["ps", "--ppid", str(process), "-o", "pid="], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


def test_the_body_arrives_whole_and_so_does_the_response(pool: WorkerPool) -> None:
    """In whatever pieces it is read, also when both are far larger than a pipe."""
    body = os.urandom(5 * MIB)
    for size in (1000, MIB):
        assert Run(pool.take(), "echo", {"size": size}, body).response == body


def test_a_worker_is_used_again(pool: WorkerPool) -> None:
    """Even if it did not read all of a body; but not for ever."""
    worker = pool.take()
    process = Run(worker, "first_bytes", {"size": 10}, b"x" * MIB).result["process"]
    pool.give_back(worker, is_reusable=True)
    assert pool.take() is worker
    run = Run(worker, "echo", body=b"the next body")
    assert run.response == b"the next body"
    assert run.result["process"] == process
    worker.tasks = MAX_TASKS
    pool.give_back(worker, is_reusable=True)
    until(lambda: not Path(f"/proc/{process}").exists())
    assert Run(pool.take(), "echo").result["process"] != process


@pytest.mark.parametrize("rows", [0, 1, MAX_ROWS, 2 * MAX_ROWS + 1])
def test_rows_are_scored_by_the_service(pool: WorkerPool, rows: int) -> None:
    """In order, however many there are."""
    response = Run(pool.take(), "scored", {"rows": rows}).response
    assert np.array_equal(np.frombuffer(response), np.arange(rows) / 2)


def test_events_come_before_what_follows_them(pool: WorkerPool) -> None:
    run = Run(pool.take(), "first_bytes", {"size": 10}, b"x" * 100)
    assert run.events == [{"read": 10}]


def test_a_failure_is_the_jobs_own(pool: WorkerPool) -> None:
    """The response so far is kept, and the worker can go on."""
    worker = pool.take()
    run = Run(worker, "fail", {"why": "because"})
    assert run.response == b"begun"
    assert run.done == Done({"rows": 3}, {"why": "because"})
    assert Run(worker, "echo", body=b"ok").response == b"ok"


def test_a_bug_is_logged_without_its_message(capfd: pytest.CaptureFixture[str]) -> None:
    """Which could quote a patient's values; the service only learns that there was one."""
    pool = WorkerPool(Template(JOBS, Settings(log_format="json")), 64 * MIB)  # started here, with this standard error
    worker = pool.take()
    assert Run(worker, "bug").done == Done(None, None)
    assert Run(worker, "echo", body=b"ok").response == b"ok"
    pool.close()
    pool.template.close()
    logged = capfd.readouterr().err
    assert '"exception":"ValueError"' in logged
    assert '"request_id":"id"' in logged
    assert "patient's value" not in logged


@pytest.mark.parametrize("by", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_a_crash_ends_one_task_alone(pool: WorkerPool, by: str) -> None:
    other, worker = pool.take(), pool.take()
    with pytest.raises(WorkerEnded):
        Run(worker, "crash", {"signal": by})
    pool.give_back(worker, is_reusable=False)
    for one in (other, pool.take()):
        assert Run(one, "echo", body=b"ok").response == b"ok"


def test_a_worker_that_died_while_it_waited_is_not_lent(pool: WorkerPool) -> None:
    worker = pool.take()
    process = Run(worker, "echo").result["process"]
    pool.give_back(worker, is_reusable=True)
    os.kill(process, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{process}").exists())
    assert Run(pool.take(), "echo").result["process"] != process


def test_an_endless_loop_is_killed(pool: WorkerPool) -> None:
    """By the service, which then goes on at once."""
    worker = pool.take()
    killer = threading.Timer(0.3, worker.kill)
    killer.start()
    with pytest.raises(WorkerEnded):
        Run(worker, "loop")
    killer.join()


def test_an_endless_loop_ends_at_the_limit_of_processor_time(pool: WorkerPool) -> None:
    with pytest.raises(WorkerEnded):
        Run(pool.take(), "loop", cpu=0)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not enforce RLIMIT_AS")
def test_memory_is_limited(pool: WorkerPool) -> None:
    """Whatever is allocated beyond the limit fails, as memory that is not there does."""
    worker = pool.take()
    assert Run(worker, "allocate", {"bytes": 48 * MIB}).response == b"%d" % (48 * MIB)
    assert Run(worker, "allocate", {"bytes": 80 * MIB}).done == Done(None, None)
    assert Run(worker, "echo", body=b"ok").response == b"ok"


def test_workers_die_with_their_template_and_it_is_started_again(pool: WorkerPool, template: Template) -> None:
    worker = pool.take()
    process = Run(worker, "echo").result["process"]
    assert template.process
    template.process.kill()
    until(lambda: not Path(f"/proc/{process}").exists())
    with pytest.raises(WorkerEnded):
        Run(worker, "echo")
    assert Run(pool.take(), "echo", body=b"ok").response == b"ok"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no seals")
def test_a_worker_cannot_shrink_what_the_service_has_mapped(pool: WorkerPool) -> None:
    """The service would be killed when it reads there."""
    worker = pool.take()
    assert Run(worker, "shrink").response == b"Operation not permitted"
    assert len(Run(worker, "scored", {"rows": 10}).response) == 80


def test_nothing_survives_the_service() -> None:
    """Not even when it is killed in the middle of a task."""
    script = f"""
import os
from service.isolation.messages import Task
from service.isolation.pool import Template, WorkerPool
from service.settings import Settings

worker = WorkerPool(Template("{JOBS}", Settings()), 2**26).take()
for _ in worker.run(Task("loop", {{}}, "", 60), os.pipe()[0], print, print):
    print("begun", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as service:
        assert service.stdout
        assert service.stdout.readline() == b"begun\n"
        (template,) = children(service.pid)
        (worker,) = children(template)
        service.kill()
        service.wait()
    until(lambda: not any(Path(f"/proc/{process}").exists() for process in (template, worker)), 5)
