"""Stream a request's body into a thread and its response out of it, with back-pressure in both directions.

The thread reads the body like a file and produces the response piece by piece. The faster side waits once
MAX_BUFFERED_BYTES lie between it and the slower one, so memory does not grow with the body.
"""

import asyncio
import contextlib
import ctypes
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from starlette.types import Receive

from service.http.limits import Gate
from service.http.problems import Problem
from service.model.registry import lower_thread_priority

MAX_BUFFERED_BYTES = 2**21  # in each direction
MAX_DISCARDED_BYTES = 2**26
DISCARD_SECONDS = 5
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h

Buffer = bytes | memoryview
Work = Callable[["Stream"], Iterable[Buffer]]


class ClientDisconnected(Exception):
    """The client has closed the connection: the work for it ends."""


class Stream:
    """A request's body, which a thread reads like a file, and the response, which it produces and the loop sends.

    changed: held and notified at each change, so that `abort` wakes the thread wherever it waits
    """

    def __init__(self, receive: Receive, stall_seconds: float, deadline: float) -> None:
        self.receive, self.stall_seconds, self.deadline = receive, stall_seconds, deadline
        self.loop = asyncio.get_running_loop()
        self.changed = threading.Condition()
        self.is_aborted = False
        self.body: deque[memoryview] = deque()
        self.body_bytes = 0  # in `body`
        self.body_has_room = asyncio.Event()
        self.is_body_complete = False
        self.response: deque[Buffer] = deque()
        self.response_bytes = 0  # in `response`
        self.response_has_news = asyncio.Event()
        self.is_response_complete = False
        self.failure: BaseException | None = None

    async def receive_body(self) -> None:
        """Receive the body, and then wait for the client to disconnect."""
        while not self.is_aborted:
            message = await self.receive()
            data = message.get("body", b"")
            with self.changed:
                self.is_aborted |= message["type"] == "http.disconnect"
                self.is_body_complete |= not message.get("more_body", False)
                if data:
                    self.body.append(memoryview(data))
                    self.body_bytes += len(data)
                self.changed.notify_all()
                is_full = self.body_bytes > MAX_BUFFERED_BYTES
                if is_full:
                    self.body_has_room.clear()
            if is_full:
                await self.body_has_room.wait()

    def abort(self) -> None:
        """Make the thread's next read or write raise ClientDisconnected."""
        with self.changed:
            self.is_aborted = True
            self.changed.notify_all()

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes as soon as there are any; none at the end.

        Raises ClientDisconnected, and Problem 408 when the body stalls or its deadline has passed.
        """
        return b"".join(self._take(size))

    def readinto(self, view: memoryview, /) -> int:
        """Read into existing memory, as `read` does; return the number of bytes."""
        done = 0
        for piece in self._take(len(view)):
            view[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def _take(self, size: int) -> list[memoryview]:
        taken: list[memoryview] = []
        with self.changed:
            self._wait_for(lambda: bool(self.body) or self.is_body_complete, "The body stopped arriving.")
            left = size
            while self.body and left:
                piece = self.body.popleft()
                if len(piece) > left:
                    self.body.appendleft(piece[left:])
                    piece = piece[:left]
                taken.append(piece)
                left -= len(piece)
            was_full = self.body_bytes > MAX_BUFFERED_BYTES
            self.body_bytes -= size - left
            if was_full and self.body_bytes <= MAX_BUFFERED_BYTES:
                self.loop.call_soon_threadsafe(self.body_has_room.set)
        return taken

    def _wait_for(self, condition: Callable[[], bool], stalled: str) -> None:
        """In the thread, holding `changed`: wait for a condition. Raises ClientDisconnected and Problem 408."""
        seconds = max(0.0, min(self.stall_seconds, self.deadline - time.monotonic()))
        is_met = self.changed.wait_for(lambda: self.is_aborted or condition(), seconds)
        if self.is_aborted:
            raise ClientDisconnected
        is_late = time.monotonic() >= self.deadline
        if is_late or not is_met:
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, "The table took too long." if is_late else stalled)

    def produce(self, work: Work) -> None:
        """In the thread: do all of the work."""
        try:
            for piece in work(self):
                if len(piece):
                    self._put(piece)
        except BaseException as error:  # raised again in the event loop
            self.failure = error
        with self.changed:
            self.is_response_complete = True
        self._notify()

    def _put(self, piece: Buffer) -> None:
        with self.changed:
            self._wait_for(lambda: self.response_bytes <= MAX_BUFFERED_BYTES, "The client does not read the response.")
            self.response.append(piece)
            self.response_bytes += len(piece)
        self._notify()

    def _notify(self) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed, and nobody reads
            self.loop.call_soon_threadsafe(self.response_has_news.set)

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        while True:
            await self.response_has_news.wait()
            self.response_has_news.clear()
            while self.response:
                piece = self.response.popleft()
                yield piece
                with self.changed:  # after the yield: a piece that is being sent takes memory as well
                    self.response_bytes -= len(piece)
                    self.changed.notify_all()
            if self.is_response_complete and not self.response:
                if self.failure:
                    raise self.failure
                return


class StreamPool:
    """The threads that serve streams, as many as `gate` admits."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.threads = ThreadPoolExecutor(gate.limit, "stream", lower_thread_priority)
        # glibc keeps up to 64 MiB of freed memory: to return each piece of a body to the kernel and get it back costs
        # more than the rest of HTTP's work on it.
        if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
            mallopt(M_MMAP_THRESHOLD, 2**25)  # the highest value it accepts
            mallopt(M_TRIM_THRESHOLD, 2**26)

    @contextlib.asynccontextmanager
    async def run(
        self, work: Work, receive: Receive, stall_seconds: float, max_seconds: float
    ) -> AsyncIterator[Stream]:
        """Run `work` on a body in a thread and yield the stream. Raises Problem 503 when all threads are busy.

        The work has ended when the context ends, whether or not all of the response was read.

        stall_seconds: how long each side may wait for the client; max_seconds: how long all of it may take
        """
        with self.gate:
            stream = Stream(receive, stall_seconds, time.monotonic() + max_seconds)
            receiving = asyncio.create_task(stream.receive_body())
            thread = stream.loop.run_in_executor(self.threads, stream.produce, work)
            try:
                yield stream
            finally:
                stream.abort()
                receiving.cancel()
                try:
                    await asyncio.shield(thread)
                finally:
                    stream.failure = None  # its traceback refers back to this frame: the cycle would keep the stream


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
