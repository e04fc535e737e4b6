"""Stream a request's body into a worker process and its response out of it, with back-pressure in both directions.

The event loop writes the body into a pipe. A thread receives the response from the worker and scores rows for it. The
faster side waits once a few MiB lie between it and the slower one, so memory does not grow with the body.
"""

import asyncio
import contextlib
import fcntl
import logging
import math
import os
import threading
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from starlette.types import Message, Receive, Scope

from service.http.connection import SLOW_CLIENT_EXEMPT
from service.http.fairness import Places, client_of
from service.http.problems import Problem
from service.isolation.messages import Done, Task
from service.isolation.pool import OnEvent, Score, Worker, WorkerEnded, WorkerPool
from service.model.registry import lower_thread_priority
from service.observe.request_context import CURRENT

MAX_BUFFERED_BYTES = 2**21  # of the response
PIPE_BYTES = 2**20  # of the body, the most that Linux allows everybody
MAX_DISCARDED_BYTES = 2**26
DISCARD_SECONDS = 5
TOO_LONG = "The table took too long."
STOPPED = "The body stopped arriving."
UNREAD = "The client does not read the response."
TOO_SLOW = "The client was slower than --min-rate while other tables waited."
SLOW_AFTER_SECONDS = 5  # of waiting for a client, before its rate counts
PLACE_SECONDS = 1  # that a table waits for the place of a slow client

log = logging.getLogger(__name__)


class ClientDisconnected(Exception):
    """The client has closed the connection: the work for it ends."""


class Stream:
    """A request's body on its way to a worker, and the response, which a thread receives and the event loop sends.

    changed: held and notified at each change that the thread waits for
    client_bytes, client_seconds: received and sent, and the time that the service waited for that
    done: how the task ended, once it has
    """

    def __init__(self, receive: Receive, worker: Worker, stall_seconds: float) -> None:
        self.receive, self.worker, self.stall_seconds = receive, worker, stall_seconds
        self.loop = asyncio.get_running_loop()
        self.pipe, self.body = _pipe()
        self.is_body_complete = False  # received
        self.changed = threading.Condition()
        self.is_aborted = False
        self.failure: BaseException | None = None
        self.response: deque[bytearray] = deque()
        self.response_bytes = 0  # in `response`
        self.response_has_news = asyncio.Event()
        self.is_response_complete = False
        self.client_bytes, self.client_seconds = 0, 0.0
        self.waiting_since: float | None = None  # for the client's next bytes
        self.done: Done | None = None

    async def send_body(self) -> None:
        """Pass the body on to the worker, and then wait for the client to disconnect."""
        is_read = True  # by the worker, which closes the pipe when it needs no more
        try:
            while not self.is_body_complete:
                self.waiting_since = self.loop.time()
                try:
                    async with asyncio.timeout(self.stall_seconds):
                        message = await self.receive()
                except TimeoutError:
                    self.abort(timeout(STOPPED))
                    return
                self.client_seconds += self.loop.time() - self.waiting_since
                self.client_bytes += len(message.get("body", b""))
                self.waiting_since = None
                if message["type"] == "http.disconnect":
                    self.abort(ClientDisconnected())
                    return
                self.is_body_complete = not message.get("more_body", False)
                is_read = await self._write(message.get("body", b""))
                if not is_read:
                    return
        finally:
            os.close(self.pipe)
        await self.receive()
        self.abort(ClientDisconnected())

    async def _write(self, data: bytes) -> bool:
        """Write to the pipe. Return False if nothing reads it any more."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.pipe, view) :]
            except BlockingIOError:
                await self._until_writable()
            except BrokenPipeError:
                return False
        return True

    async def _until_writable(self) -> None:
        writable = self.loop.create_future()
        self.loop.add_writer(self.pipe, writable.set_result, None)
        try:
            await writable
        finally:
            self.loop.remove_writer(self.pipe)

    def is_slower_than(self, rate: float) -> bool:
        """Whether the client has sent and read fewer bytes per second of waiting for it."""
        seconds = self.client_seconds + (self.loop.time() - self.waiting_since if self.waiting_since else 0)
        return seconds >= SLOW_AFTER_SECONDS and self.client_bytes < rate * seconds

    def abort(self, failure: BaseException) -> None:
        """End the task, and the worker with it, for this reason. Does nothing once it has ended."""
        with self.changed:
            if not self.is_aborted and not self.is_response_complete:
                self.is_aborted, self.failure = True, failure
                self.worker.kill()
                self.changed.notify_all()

    def run(self, task: Task, score: Score, on_event: OnEvent) -> None:
        """In the thread: run the task and receive the response."""
        try:
            for piece in self.worker.run(task, self.body, score, on_event):
                if isinstance(piece, Done):
                    self.done = piece
                elif not self._put(piece):
                    break
        except BaseException as error:  # raised again in the event loop
            with self.changed:
                self.failure = self.failure or error
        with self.changed:
            self.is_response_complete = True
        self._notify()

    def _put(self, piece: bytearray) -> bool:
        """Append to the response. Return False if the task was aborted."""
        with self.changed:
            has_room = self.changed.wait_for(
                lambda: self.is_aborted or self.response_bytes <= MAX_BUFFERED_BYTES, self.stall_seconds
            )
            if not has_room:
                self.failure = timeout(UNREAD)
                return False
            if self.is_aborted:
                return False
            self.response.append(piece)
            self.response_bytes += len(piece)
        self._notify()
        return True

    def _notify(self) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed, and nobody reads
            self.loop.call_soon_threadsafe(self.response_has_news.set)

    async def __aiter__(self) -> AsyncIterator[bytearray]:
        """The response. Raises the failure, ClientDisconnected and Problem 408 among them."""
        while True:
            await self.response_has_news.wait()
            self.response_has_news.clear()
            while self.response:
                piece = self.response.popleft()
                began = self.loop.time()
                yield piece
                self.client_seconds += self.loop.time() - began
                self.client_bytes += len(piece)
                with self.changed:  # after the yield: a piece that is being sent takes memory as well
                    self.response_bytes -= len(piece)
                    self.changed.notify_all()
            if self.is_response_complete and not self.response:
                if isinstance(self.failure, WorkerEnded):
                    raise self._ended()
                if self.failure:
                    raise self.failure
                return

    def _ended(self) -> Problem:
        mebibytes = self.worker.memory_bytes >> 20
        log.warning("a table worker ended in the middle of its task")
        detail = f"The table is damaged, or to read it takes more than {mebibytes} MiB of memory."
        return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


class StreamPool:
    """The threads and workers that serve streams, as many as there are places, and one.

    min_rate: bytes per second; when no place is free, a slower client gives its own up
    """

    def __init__(self, places: Places, workers: WorkerPool, min_rate: float) -> None:
        self.places, self.workers, self.min_rate = places, workers, min_rate
        self.running: set[Stream] = set()
        self.threads = ThreadPoolExecutor(places.total + 1, "stream", lower_thread_priority)

    async def _find_place(self, client: str) -> None:
        """If no place is free, end the streams of slow clients and wait a moment for their places."""
        if not self.places.is_full(client) or not self.places.has_share(client):
            return
        for stream in self.running:
            if stream.is_slower_than(self.min_rate):
                stream.abort(timeout(TOO_SLOW))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PLACE_SECONDS):
                while any(stream.is_aborted for stream in self.running) and self.places.is_full(client):
                    await asyncio.sleep(PLACE_SECONDS / 100)

    @contextlib.asynccontextmanager
    async def run(
        self,
        job: str,
        arguments: dict[str, Any],
        scope: Scope,
        receive: Receive,
        score: Score,
        on_event: OnEvent,
        stall_seconds: float,
        max_seconds: float,
    ) -> AsyncIterator[Stream]:
        """Run a job on a body in a worker and yield the stream. Raises Problem 503 when no place is left.

        The job has ended when the context ends, whether or not all of the response was read.

        stall_seconds: how long each side may wait for the client; max_seconds: how long all of it may take
        """
        receive = await _when_begun(receive)
        scope[SLOW_CLIENT_EXEMPT] = True  # from here on the limits of streams apply
        client = client_of(scope)
        await self._find_place(client)
        with self.places.place(client):
            request = CURRENT.get()
            task = Task(job, arguments, request.id.decode() if request else "", math.ceil(max_seconds))
            worker = self.workers.take()
            stream = Stream(receive, worker, stall_seconds)
            self.running.add(stream)
            deadline = stream.loop.call_later(max_seconds, stream.abort, timeout(TOO_LONG))
            sending = asyncio.create_task(stream.send_body())
            thread = stream.loop.run_in_executor(self.threads, stream.run, task, score, on_event)
            try:
                yield stream
            finally:
                deadline.cancel()
                sending.cancel()
                stream.abort(ClientDisconnected())
                try:
                    await asyncio.shield(thread)
                finally:
                    self.running.discard(stream)
                    self.workers.give_back(worker, is_reusable=stream.done is not None)  # and not killed since
                    stream.failure = None  # its traceback refers back to this frame: the cycle would keep the stream


async def _when_begun(receive: Receive) -> Receive:
    """Wait for the first bytes of a body; until then a client holds no place. Return a function that receives it.

    Raises ClientDisconnected, so that many who leave at once take no places either.
    """
    first: list[Message] = [await receive()]
    if first[0]["type"] == "http.disconnect":
        raise ClientDisconnected

    async def receive_again() -> Message:
        return first.pop() if first else await receive()

    return receive_again


def timeout(detail: str) -> Problem:
    return Problem(HTTPStatus.REQUEST_TIMEOUT, detail)


def _pipe() -> tuple[int, int]:
    """A pipe, to write without blocking and to read from."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    if set_size := getattr(fcntl, "F_SETPIPE_SZ", None):
        with contextlib.suppress(OSError):  # beyond what one user may have in pipes together
            fcntl.fcntl(write_end, set_size, PIPE_BYTES)
    return write_end, read_end


async def discard_body(receive: Receive) -> None:
    """Read and drop the rest of a body: closing while the client sends would lose the response."""
    left = MAX_DISCARDED_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
