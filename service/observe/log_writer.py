"""Write log lines from a background thread, so logging never blocks a request."""

import os
import select
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Event, RLock, Thread

MAX_ENTRIES = 10_000  # that wait; further ones are dropped
GATHER_SECONDS = 0.05  # how long entries gather to be written together; a kill can lose as much
MAX_WRITE_BYTES = select.PIPE_BUF  # a pipe takes this many bytes at once, without another worker's lines in between


class LogWriter:
    """A bounded queue of entries of one or a few log lines, and the thread that writes them to a file descriptor.

    report: makes a line that reports a number of dropped lines
    """

    def __init__(self, descriptor: int, report: Callable[[int], bytes]) -> None:
        self._descriptor, self._report = descriptor, report
        self._queue: SimpleQueue[bytes | Event] = SimpleQueue()  # an event is a flush that waits
        self._urgent = Event()
        self._drop_lock = RLock()
        self._dropped = self._reported = 0
        self._on_drop: Callable[[int], object] | None = None
        Thread(target=self._run, name="log", daemon=True).start()

    def put(self, entry: bytes, is_urgent: bool = False) -> None:
        """Write an entry within GATHER_SECONDS, or at once if it is urgent; drop it if too many wait. Thread-safe."""
        if self._queue.qsize() >= MAX_ENTRIES:
            self._drop(entry.count(b"\n"))
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
            entries: list[bytes] = []
            size = 0
            for entry in self._gathered(first):
                if isinstance(entry, Event):
                    flushes.append(entry)
                    continue
                if size + len(entry) > MAX_WRITE_BYTES:
                    self._write(entries)
                    entries, size = [], 0
                entries.append(entry)
                size += len(entry)
            self._write(entries)
            for flush in flushes:
                flush.set()

    def _gathered(self, first: bytes | Event) -> Iterator[bytes | Event]:
        """Take the waiting entries from the queue one by one and yield them; then yield a report of dropped lines."""
        yield first
        for _ in range(self._queue.qsize()):
            yield self._queue.get()
        if dropped := self._dropped - self._reported:
            self._reported += dropped
            yield self._report(dropped)

    def _write(self, entries: list[bytes]) -> None:
        rest = b"".join(entries)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # another process that shares the pipe made it non-blocking
                time.sleep(GATHER_SECONDS)
            except OSError:  # the reader has gone, or the disk is full
                self._drop(rest.count(b"\n"))
                return
