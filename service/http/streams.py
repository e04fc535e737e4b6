"""A request's body and its answer, between the event loop and a thread that computes, with back-pressure both ways.

The thread reads the body as a file and makes the answer piece by piece. Neither side runs ahead of the other by more
than HIGH bytes, so that memory does not grow with the body, and whoever is slower sets the pace.
"""

import asyncio
import contextlib
import ctypes
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from starlette.types import Receive

from service.http.gates import Gate
from service.http.problems import Problem
from service.model.registry import lower_thread_priority

HIGH = 2**21  # bytes that wait on either side
LINGER_SECONDS = 5
LINGER = 2**26  # bytes of a refused body that are read and dropped, so that its client comes to read the answer

Buffer = bytes | memoryview
Work = Callable[["Body"], Iterable[Buffer]]


class ClientDisconnected(Exception):
    """The client has left: whatever is under way for it ends."""


class Body:
    """A request's body as a file to read from in a thread. `pump` fills it, in the event loop."""

    def __init__(self, receive: Receive, stall: float, deadline: float) -> None:
        self.receive, self.stall, self.deadline = receive, stall, deadline
        self.loop = asyncio.get_running_loop()
        self.room = asyncio.Event()
        self.changed = threading.Condition()
        self.pieces: deque[memoryview] = deque()
        self.waiting = 0  # bytes
        self.ended = self.gone = False

    async def pump(self) -> None:
        """Take in what the client sends, and then notice whether it leaves."""
        while not self.gone:
            message = await self.receive()
            data = message.get("body", b"")
            with self.changed:
                self.gone |= message["type"] == "http.disconnect"
                self.ended |= not message.get("more_body", False)
                if data:
                    self.pieces.append(memoryview(data))
                    self.waiting += len(data)
                self.changed.notify_all()
                full = self.waiting > HIGH
                if full:
                    self.room.clear()
            if full:
                await self.room.wait()

    def leave(self) -> None:
        """Make the thread's next step raise Gone."""
        with self.changed:
            self.gone = True
            self.changed.notify_all()

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, as soon as there are any; none at the end. Raises Gone, and Problem 408."""
        return b"".join(self._take(size))

    def readinto(self, view: memoryview, /) -> int:
        """The same into memory that is there already; returns how many bytes it were."""
        done = 0
        for piece in self._take(len(view)):
            view[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def _take(self, size: int) -> list[memoryview]:
        taken: list[memoryview] = []
        with self.changed:
            ready = self.changed.wait_for(lambda: self.pieces or self.ended or self.gone, self._patience())
            if self.gone:
                raise ClientDisconnected
            if not ready or time.monotonic() > self.deadline:
                raise _late(self.deadline, "The body stopped coming.")
            left = size
            while self.pieces and left:
                piece = self.pieces.popleft()
                if len(piece) > left:
                    self.pieces.appendleft(piece[left:])
                    piece = piece[:left]
                taken.append(piece)
                left -= len(piece)
            was_full, self.waiting = self.waiting > HIGH, self.waiting - (size - left)
            if was_full and self.waiting <= HIGH:
                self.loop.call_soon_threadsafe(self.room.set)
        return taken

    def _patience(self) -> float:
        return max(0.0, min(self.stall, self.deadline - time.monotonic()))


def _late(deadline: float, stalled: str) -> Problem:
    whole = time.monotonic() >= deadline
    return Problem(HTTPStatus.REQUEST_TIMEOUT, "The table took too long." if whole else stalled)


class ResponseStream:
    """Pieces that a thread makes and the event loop sends."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.made = asyncio.Event()
        self.changed = body.changed  # one condition for both: `leave` wakes the thread wherever it waits
        self.pieces: deque[Buffer] = deque()
        self.waiting = 0
        self.done = False
        self.failure: BaseException | None = None

    def make(self, work: Work) -> None:
        """In the thread: all of the answer."""
        try:
            for piece in work(self.body):
                self._put(piece)
        except BaseException as error:  # whoever reads gets it
            self.failure = error
        with self.changed:
            self.done = True
        self._wake()

    def _put(self, piece: Buffer) -> None:
        if not len(piece):
            return
        with self.changed:
            room = self.changed.wait_for(lambda: self.waiting <= HIGH or self.body.gone, self.body._patience())
            if self.body.gone:
                raise ClientDisconnected
            if not room or time.monotonic() > self.body.deadline:
                raise _late(self.body.deadline, "Nobody reads the answer.")
            self.pieces.append(piece)
            self.waiting += len(piece)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody reads
            self.body.loop.call_soon_threadsafe(self.made.set)

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        while True:
            await self.made.wait()
            self.made.clear()
            while self.pieces:
                with self.changed:
                    piece = self.pieces.popleft()
                yield piece
                with self.changed:  # only now: what is being sent takes memory as well
                    self.waiting -= len(piece)
                    self.changed.notify_all()
            if self.done and not self.pieces:
                if self.failure:
                    raise self.failure
                return


class StreamPool:
    """The threads in which streams are computed, as many as `gate` admits."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.threads = ThreadPoolExecutor(gate.limit, "stream", lower_thread_priority)
        _keep_freed_memory()

    @contextlib.asynccontextmanager
    async def run(self, work: Work, receive: Receive, stall: float, seconds: float) -> AsyncIterator[ResponseStream]:
        """Yield the response that `work` makes of a request's body. Raises Problem 503 where all threads are busy.

        The work has ended when the context ends, whether all of the response was read or not.

        stall, seconds: how long either side may wait for the client, and how long all of it may take
        """
        with self.gate:
            body = Body(receive, stall, time.monotonic() + seconds)
            response = ResponseStream(body)
            pump = asyncio.create_task(body.pump())
            thread = body.loop.run_in_executor(self.threads, response.make, work)
            try:
                yield response
            finally:
                body.leave()
                pump.cancel()
                try:
                    await asyncio.shield(thread)
                finally:
                    response.failure = None  # its traceback refers back to this frame: the cycle would keep the stream


async def linger(rest: Receive | None) -> None:
    """Read and drop what is left of a body: to close on a client that still sends would take the answer from it."""
    left = LINGER
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while rest and left > 0:
                message = await rest()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    break


def _keep_freed_memory() -> None:
    """Let glibc keep what is freed, up to 64 MiB: to give back and take again each piece of a body costs more than all
    else that HTTP does with it."""
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(mmap_threshold, 2**25)  # the highest that it takes
        mallopt(trim_threshold, 2**26)
