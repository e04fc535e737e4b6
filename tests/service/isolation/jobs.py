"""Jobs that behave well or badly, for workers of tests."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from service.isolation.worker import Body, Buffer, JobFailed, Jobs, Service


def echo(given: dict[str, Any], body: Body, service: Service) -> Iterator[Buffer]:
    """The body, piece by piece; the result says which process it was."""
    while data := body.read(given.get("size", 2**16)):
        yield data
    service.result = {"process": os.getpid()}


def first_bytes(given: dict[str, Any], body: Body, service: Service) -> Iterator[Buffer]:
    """No more of the body than its first bytes."""
    service.tell({"read": len(body.read(given["size"]))})
    service.result = {"process": os.getpid()}
    yield b""


def scored(given: dict[str, Any], _body: Body, service: Service) -> Iterator[Buffer]:
    """The probabilities of n rows, of which each field is the row's number."""
    columns = np.tile(np.arange(given["rows"], dtype=np.float32), (13, 1))
    yield service.score(columns).tobytes()


def crash(given: dict[str, Any], _body: Body, _service: Service) -> Iterator[Buffer]:
    yield b"begun"
    os.kill(os.getpid(), getattr(signal, given["signal"]))


def loop(_given: dict[str, Any], _body: Body, _service: Service) -> Iterator[Buffer]:
    yield b"begun"
    while True:
        pass


def allocate(given: dict[str, Any], _body: Body, _service: Service) -> Iterator[Buffer]:
    yield b"%d" % len(bytes(given["bytes"]))


def fail(given: dict[str, Any], _body: Body, service: Service) -> Iterator[Buffer]:
    service.result = {"rows": 3}
    yield b"begun"
    raise JobFailed(given)


def bug(_given: dict[str, Any], _body: Body, _service: Service) -> Iterator[Buffer]:
    yield b""
    raise ValueError("a patient's value")


def shrink(_given: dict[str, Any], _body: Body, _service: Service) -> Iterator[Buffer]:
    """Try to make the shared memory smaller, whichever descriptor it has."""
    files = [Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]  # noqa: PTH208  # one is gone then
    memory, *_ = [file for file in files if file.is_symlink() and "memfd:rows" in str(file.readlink())]
    try:
        os.ftruncate(int(memory.name), 0)
    except OSError as error:
        yield str(error.strerror).encode()


JOBS: Jobs = {job.__name__: job for job in (echo, first_bytes, scored, crash, loop, allocate, fail, bug, shrink)}
