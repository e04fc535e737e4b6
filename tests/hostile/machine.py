"""A service in a control group of 1 GiB where the machine lets one be made, and a client beside the attacks."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from patient.record import EXAMPLE
from tests.e2e.serving import COMMAND, serving
from tests.faults.machine import until

LIMIT = 2**30  # bytes
GROUPS = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def memory_group() -> Iterator[Path | None]:
    """A control group that may have LIMIT bytes, of version 1 or 2; None where the machine lets nobody make one."""
    group, limit = GROUPS / f"memory/heart-{os.getpid()}-{time.monotonic_ns()}", "memory.limit_in_bytes"
    if (GROUPS / "cgroup.controllers").exists():
        group, limit = GROUPS / group.name, "memory.max"
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        try:
            (group / limit).write_text(str(LIMIT))
            is_limited = True
        except OSError:  # version 2 without the controller of memory
            is_limited = False
        yield group if is_limited else None
    finally:
        until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


@contextlib.contextmanager
def serving_in_group(*flags: str) -> Iterator[tuple[int, int]]:
    """As `serving`, in a control group of its own if there can be one."""
    with memory_group() as group:
        enter = ("sh", "-c", f'echo $$ > "{group}/cgroup.procs" && exec "$@"', "sh") if group else ()
        with serving(*flags, command=(*enter, *COMMAND)) as served:
            yield served


class Bystander:
    """A client in another process that asks for one patient again and again. seconds: that each answer took"""

    def __init__(self, port: int) -> None:
        command = [sys.executable, str(Path(__file__).with_name("bystander.py")), str(port), json.dumps(EXAMPLE)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout
        assert self.process.stdout.readline() == b"\n"  # it has begun
        self.seconds: list[float] = []

    def stop(self) -> None:
        """Raises AssertionError if an answer was not 200."""
        found, _ = self.process.communicate()
        assert self.process.returncode == 0
        self.seconds = json.loads(found)

    @property
    def summary(self) -> str:
        count, found = len(self.seconds), sorted(self.seconds)
        p99, most = found[count * 99 // 100] * 1000, found[-1] * 1000
        return f"{count:,} records beside it: p99 {p99:.0f} ms, at most {most:.0f} ms"
