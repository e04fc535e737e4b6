"""Try a model file in a process of its own, with limits of memory and time: its graph may hang, crash or never end.

A process that has not used ONNX Runtime yet is forked, in some milliseconds. Any other may have threads, which a fork
would lack, so a new interpreter is started, in about half a second.
"""

import contextlib
import os
import resource
import select
import signal
import sys
import tempfile
import time

import numpy as np

from patient.artefact import ArtefactError
from service.lifetime import end_with_parent
from service.model import session
from service.model.device import reason
from service.model.execution import CHUNK_ROWS, EXAMPLES
from service.model.loading import inspect

SECONDS = 20  # for all of a trial
CHUNK_SECONDS = 2  # for a run of CHUNK_ROWS rows, which takes version 3 one millisecond
MEMORY_BYTES = 2**30  # that the file may take
ROWS = (1, 2, 255, CHUNK_ROWS)
PASSED = b"passed"
MAX_ANSWER_BYTES = 4096
PROGRAM = "from service.model.trial import main; main()"


class Trial:
    """Tries one file at a time."""

    def __init__(self) -> None:
        self.process = 0  # the one at work

    def run(self, content: bytes) -> None:
        """Raise ArtefactError with what is wrong with a model file."""
        answers, end = os.pipe()
        with open(answers, "rb", buffering=0) as pipe:  # noqa: PTH123  # of a descriptor
            try:
                self.process = _start(content, end) if session.is_runtime_used else _fork(content, end)
            finally:
                os.close(end)
            answer, is_late = _wait(pipe.fileno())
            self.stop()
            _, status = os.waitpid(self.process, 0)
            self.process = 0
        if is_late:
            raise ArtefactError(f"it was not loaded and run within {SECONDS} s")
        if not answer:
            raise ArtefactError(f"ONNX Runtime ended with it: {_how(status)}")
        if answer != PASSED:
            raise ArtefactError(answer.decode(errors="replace"))

    def stop(self) -> None:
        """End the trial under way. Thread-safe."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)


def main() -> None:
    """The new interpreter's program: the file is stdin, and the answer goes to stdout."""
    _judge(sys.stdin.buffer.read(), 1)


def _fork(content: bytes, answers: int) -> int:
    process = os.fork()
    if not process:
        _judge(content, answers)
    return process


def _start(content: bytes, answers: int) -> int:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        actions = [
            (os.POSIX_SPAWN_DUP2, file.fileno(), 0),
            (os.POSIX_SPAWN_DUP2, answers, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
        return os.posix_spawn(sys.executable, [sys.executable, "-c", PROGRAM], environment, file_actions=actions)


def _judge(content: bytes, answers: int) -> None:
    """Write PASSED, or what is wrong, and end this process."""
    try:
        end_with_parent()
        _restrict()
        _, run = inspect(content)
        for rows in ROWS:
            began = time.monotonic()
            found = run(np.resize(EXAMPLES, (rows, EXAMPLES.shape[1])))
            if found.shape != (rows,):
                raise ArtefactError(f"for {rows} rows its output has {len(found)}")
            if time.monotonic() - began > CHUNK_SECONDS:
                raise ArtefactError(f"it takes more than {CHUNK_SECONDS} s for {rows} rows")
        answer = PASSED
    except BaseException as error:  # among them MemoryError, of the limit
        answer = (reason(error) or type(error).__name__).encode()[:MAX_ANSWER_BYTES]
    with contextlib.suppress(OSError):  # of a service that has ended
        os.write(answers, answer)
    os._exit(0)


def _restrict() -> None:
    """Limit the memory, and the processor time should the service not end this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:  # noqa: PTH123  # no path of ours
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES, mapped + MEMORY_BYTES))


def _wait(pipe: int) -> tuple[bytes, bool]:
    """Return the answer, empty if the process has ended without one, and whether the time is up."""
    if not select.select([pipe], [], [], SECONDS)[0]:
        return b"", True
    return os.read(pipe, MAX_ANSWER_BYTES), False  # written at once: a pipe takes as much


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else signal.Signals(-code).name
