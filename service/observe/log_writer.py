"""Write log lines from a background thread, so logging never blocks a request."""

import os
import select
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Event, RLock, Thread
from typing import Generic, TypeVar

Entry = TypeVar("Entry")

MAX_ENTRIES = 10_000  # that wait; further ones are dropped
GATHER_SECONDS = 0.05  # how long entries gather to be written together; a kill can lose as much
MAX_WRITE_BYTES = select.PIPE_BUF  # a pipe takes this many bytes at once, without another worker's lines in between


class LogWriter(Generic[Entry]):
    """A bounded queue of log lines and entries, and the thread that writes them to a file descriptor.

    to_line: makes a line of an entry, in the thread; report: makes a line that reports a number of dropped lines
    """

    def __init__(self, descriptor: int, to_line: Callable[[Entry], bytes], report: Callable[[int], bytes]) -> None:
        self._descriptor, self._to_line, self._report = descriptor, to_line, report
        self._queue: SimpleQueue[Entry | bytes | Event] = SimpleQueue()  # an event is a flush that waits
        self._urgent = Event()
        self._drop_lock = RLock()
        self._dropped = self._reported = 0
        self._on_drop: Callable[[int], object] | None = None
        Thread(target=self._run, name="log", daemon=True).start()

    def put(self, entry: Entry | bytes, is_urgent: bool = False) -> None:
        """Write an entry within GATHER_SECONDS, or at once if it is urgent; drop it if too many wait. Thread-safe."""
        if self._queue.qsize() >= MAX_ENTRIES:
            self._drop(1)
            return
        self._queue.put(entry)
        if is_urgent:
            self._urgent.set()

    def flush(self, seconds: float) -> None:
        """Wait until all is written, at most `seconds`: a pipe without a reader must not keep a process alive."""
        done = Event()
        self._queue.put(done)
        self._urgent.set()
        done.wait(seconds)

    def count_drops(self, callback: Callable[[int], object]) -> None:
        """Call `callback` with each number of dropped lines, including those so far. It runs under a lock."""
        with self._drop_lock:
            self._on_drop = callback
            if self._dropped:
                callback(self._dropped)

    def _drop(self, lines: int) -> None:
        with self._drop_lock:
            self._dropped += lines
            if self._on_drop:
                self._on_drop(lines)

    def _run(self) -> None:
        while True:
            first = self._queue.get()
            self._urgent.wait(GATHER_SECONDS)
            self._urgent.clear()
            flushes = []
            lines: list[bytes] = []
            size = 0
            for entry in self._gathered(first):
                if isinstance(entry, Event):
                    flushes.append(entry)
                    continue
                line = entry if isinstance(entry, bytes) else self._to_line(entry)
                if size + len(line) > MAX_WRITE_BYTES:
                    self._write(lines)
                    lines, size = [], 0
                lines.append(line)
                size += len(line)
            self._write(lines)
            for flush in flushes:
                flush.set()

    def _gathered(self, first: Entry | bytes | Event) -> Iterator[Entry | bytes | Event]:
        """Take the waiting entries from the queue one by one and yield them; then yield a report of dropped lines."""
        yield first
        for _ in range(self._queue.qsize()):
            yield self._queue.get()
        if dropped := self._dropped - self._reported:
            self._reported += dropped
            yield self._report(dropped)

    def _write(self, lines: list[bytes]) -> None:
        rest = b"".join(lines)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # another process that shares the pipe made it non-blocking
                time.sleep(GATHER_SECONDS)
            except OSError:  # the reader has gone, or the disk is full
                self._drop(len(lines))
                return
