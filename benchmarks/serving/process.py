"""A server as a tree of processes on one core: started, paused, measured, stopped.

The tree is found by a marker in its environment, which daemons keep when they leave their parent and session.
"""

import http.client
import os
import re
import shlex
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.serving.servers import ROOT, Server

SERVER_CORE, CLIENT_CORE = 0, 1
MAX_LOG_BYTES = 2**26
TICK = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A server does not start, gives wrong results, or has exited. The message is one line."""


@contextmanager
def core(number: int) -> Iterator[None]:
    """Run processes started in this context, and their children, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def environment(server: Server, work: Path, model: Path) -> dict[str, str]:
    """The environment of a server, without this shell's settings for our service."""
    hidden = ("HEART_", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")  # without bytecode every start would be longer
    env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "BENCH_WORK": str(work), "BENCH_MODEL": str(model)}
    env["PATH"] = f"{server.venv}/bin:{env['PATH']}"
    return env


def prepare(server: Server, work: Path, model: Path) -> None:
    """Run a server's preparation command. Raises Failed."""
    if server.prepare:
        env = environment(server, work, model) | dict(server.env)
        done = subprocess.run(shlex.split(server.prepare), cwd=work, env=env, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"could not be prepared: {(done.stderr.strip().splitlines() or ['?'])[-1]}")


class Running:
    """A started server. `cold` is the seconds from its start to its first answer to `body`."""

    def __init__(self, server: Server, work: Path, model: Path, body: bytes, limit: float = 60) -> None:
        self.server, self.body, self.log = server, body, work / f"{server.name}.log"
        with socket.create_server(("", 0)) as a, socket.create_server(("", 0)) as b, socket.create_server(("", 0)) as c:
            self.port, *more = (listener.getsockname()[1] for listener in (a, b, c))
        known = {"port": self.port, "port2": more[0], "port3": more[1], "work": work, "models": model.parents[1]}
        mark = uuid.uuid4().hex
        self.mark = f"BENCH_MARK={mark}\0".encode()
        env = environment(server, work, model) | {"BENCH_MARK": mark}
        env |= {name: value.format(**known) for name, value in server.env.items()}
        command = shlex.split(server.command.format(**known))
        begun = time.perf_counter()
        with core(SERVER_CORE), self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait(begun + limit)
        except BaseException:
            self.stop()
            raise
        self.cold = time.perf_counter() - begun

    def _wait(self, deadline: float) -> None:
        while time.perf_counter() < deadline:
            if self.process.poll() is not None:
                raise Failed(f"ended by itself: {self.last_words()}")
            try:
                if self.post(self.server.single, self.body)[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.005)
        raise Failed(f"not ready in time: {self.last_words()}")

    def last_words(self) -> str:
        """The last line of its log."""
        return (self.log.read_text(errors="replace").strip().splitlines() or ["no word in its log"])[-1][:200]

    def url(self, path: str) -> str:
        """The URL of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the response. Raises OSError or HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json", **self.server.headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def settle(self) -> None:
        """Wait until the requests of a load are finished. Raises Failed."""
        try:
            status, _ = self.post(self.server.single, self.body)
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"no longer answers ({error}): {self.last_words()}") from None
        if self.log.stat().st_size > MAX_LOG_BYTES:
            os.truncate(self.log, 0)
        if status != 200:
            raise Failed(f"answers {status} to what it answered before")

    def pids(self) -> list[int]:
        """All its processes. nginx hides their environment, so children of the first one count without the marker."""
        first = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = [self.process.pid, *map(int, first.read_text().split())] if first.exists() else []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if int(folder.name) not in found and self.mark in (folder / "environ").read_bytes() + b"\0":
                    found.append(int(folder.name))
            except OSError:
                continue  # it has ended meanwhile
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the tree."""
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def cpu(self) -> float:
        """Seconds of processor time that the tree has used, in steps of 10 ms."""
        ticks = 0
        for pid in self.pids():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            ticks += int(fields[11]) + int(fields[12])  # user and system
        return ticks / TICK

    def memory(self) -> float:
        """MiB: the sum of each process's peak, so shared memory counts more than once."""
        peak = 0
        for pid in self.pids():
            try:
                found = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
            except OSError:
                continue
            peak += int(found[1]) if found else 0
        return peak / 1024

    def stop(self) -> None:
        """Stop the whole tree."""
        self.signal(signal.SIGCONT)
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(3)
        self.signal(signal.SIGKILL)
        self.process.wait()
