"""Start the service as a subprocess, and talk HTTP to it over real connections."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from tests.conftest import ROOT


def free_port() -> int:
    """A port that is not in use."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


COMMAND = (sys.executable, "-m", "service", "--provider", "cpu", "--port", "{port}", "--drain", "0")


@contextmanager
def serving(
    *flags: str, command: tuple[str, ...] = COMMAND, log: int | IO[bytes] | None = None, folder: Path = ROOT
) -> Iterator[tuple[int, int]]:
    """Yield port and process id of a service that is ready; then stop it, which must succeed.

    log: where its stderr goes; folder: its current folder
    """
    port = free_port()
    whole = [*(word.format(port=port) for word in command), *flags]
    server = subprocess.Popen(whole, cwd=folder, start_new_session=True, stderr=log)
    try:
        wait_until_ready(port, server)
        yield port, server.pid
        os.killpg(server.pid, signal.SIGTERM)
        assert server.wait(30) == 0 or command[0] == "make"  # make reports the signal
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@contextmanager
def acting(act: Callable[[socket.socket], None]) -> Iterator[str]:
    """Yield the URL of a listening socket on which `act` runs in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            with suppress(OSError):
                act(listening)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)  # wakes `accept`
            thread.join()


@contextmanager
def answering(*answers: bytes, asked: list[bytes] | None = None) -> Iterator[str]:
    """A server that sends one raw response per connection and closes it; requests are appended to `asked`."""

    def act(listening: socket.socket) -> None:
        for answer in answers:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                heard = connection.recv(2**20)
                if asked is not None:
                    asked.append(heard)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(5)
                while connection.recv(2**16):
                    pass  # to close while data arrive would destroy the response

    with acting(act) as url:
        yield url


def wait_until_ready(port: int, server: subprocess.Popen[bytes]) -> None:
    """Wait until /health/ready responds with 200."""
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready").close()
            return
        except (urllib.error.URLError, ConnectionError):
            assert server.poll() is None
            time.sleep(0.05)
    raise AssertionError("the service did not become ready")


def get(port: int, path: str) -> str:
    """The body of a GET over a new connection."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as response:
        text: str = response.read().decode()
        return text


def request(path: str, content: object) -> bytes:
    """The bytes of a POST with JSON."""
    body = json.dumps(content).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection:
    """A keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def post(self, path: str, content: object) -> tuple[int, dict[str, str], Any]:
        """Status, headers and parsed body of the response to a POST."""
        self.writer.write(request(path, content))
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """The next response on this connection."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, json.loads(body)

    def close(self) -> None:
        self.writer.transport.abort()
