"""Lines on their way out, written by a thread: whoever logs never waits for whoever reads.

A pipe that nobody empties holds up that thread alone. What then comes is kept up to a bound, and dropped and counted
beyond it.
"""

import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Entry = TypeVar("Entry")

WAITING = 10_000  # entries that are kept
GATHER = 0.05  # seconds in which entries gather, to be written together; also what a kill can lose
PIECE = select.PIPE_BUF  # bytes: a pipe takes so many at once or none, so that no other worker's line falls in between


class Lines(Generic[Entry]):
    """A bounded queue of entries in front of a file descriptor. `told` makes a line of each, in the thread."""

    def __init__(self, descriptor: int, told: Callable[[Entry], bytes], lost: Callable[[int], Entry]) -> None:
        self.descriptor, self.told, self.lost = descriptor, told, lost
        self.waiting: list[Entry] = []
        self.dropped = 0
        self._reported = 0
        self._busy = False
        self._some, self._urgent = threading.Event(), threading.Event()
        threading.Thread(target=self._work, name="log", daemon=True).start()

    def put(self, entry: Entry, urgent: bool = False) -> bool:
        """Write it soon, or at once; False if it is dropped. Any thread may call it."""
        if len(self.waiting) >= WAITING:
            self.dropped += 1
            return False
        self.waiting.append(entry)
        if len(self.waiting) == 1:
            self._some.set()
        if urgent:
            self._urgent.set()
        return True

    def flush(self, seconds: float) -> None:
        """Return once all is written, or so much later: a pipe that nobody empties must not keep a process alive."""
        until = time.monotonic() + seconds
        while (self.waiting or self._busy) and time.monotonic() < until:
            self._some.set()
            self._urgent.set()
            time.sleep(0.002)

    def _work(self) -> None:
        while True:
            self._some.wait()
            self._urgent.wait(GATHER)
            self._busy = True
            self._urgent.clear()
            self._some.clear()
            while count := len(self.waiting):
                entries = self.waiting[:count]
                del self.waiting[:count]  # what came meanwhile stays for the next turn
                if lost := self.dropped - self._reported:
                    self._reported += lost
                    entries.append(self.lost(lost))
                self._write(map(self.told, entries))
            self._busy = False

    def _write(self, lines: Iterable[bytes]) -> None:
        piece: list[bytes] = []
        size = 0
        for line in lines:
            if size + len(line) > PIECE and piece:
                self._out(piece)
                piece, size = [], 0
            piece.append(line)
            size += len(line)
        self._out(piece)

    def _out(self, lines: list[bytes]) -> None:
        rest = b"".join(lines)
        while rest:
            try:
                rest = rest[os.write(self.descriptor, rest) :]
            except BlockingIOError:  # somebody made it so
                time.sleep(GATHER)
            except OSError:  # nobody is there any more, or the disk is full
                self.dropped += len(lines)
                self._reported = self.dropped if self.dropped == self._reported + len(lines) else self._reported
                return
