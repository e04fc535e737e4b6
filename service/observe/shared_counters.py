"""Per-process counters in a memory-mapped file; they survive SIGKILL.

Every worker process counts in a file of its own, and any of them can add up the files of all. A living worker holds a
lock on its file, which the kernel releases however the worker ends.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Cells = NDArray[np.float64]


class SharedCounters:
    """`size` float64 cells of this process, 0 at first. Without a folder there are no other processes.

    cells: the fastest access to a single cell; array: the same memory as a numpy array
    """

    def __init__(self, folder: Path | None, size: int) -> None:
        self.folder, self.size = folder, size
        if folder is None:
            self._memory: mmap.mmap = mmap.mmap(-1, 8 * size)
        else:
            with (folder / str(os.getpid())).open("a+b") as file:  # a reused process id continues the dead one's counts
                fcntl.flock(file, fcntl.LOCK_EX)  # held by the mapping, which duplicates the descriptor
                file.truncate(8 * size)
                self._memory = mmap.mmap(file.fileno(), 8 * size)
        self.cells = memoryview(self._memory).cast("d")
        self.array: Cells = np.frombuffer(self._memory)

    def read_all(self) -> Iterator[tuple[Cells, bool]]:
        """Yield the current counters of every process, and whether it lives."""
        if self.folder is None:
            yield self.array.copy(), True
            return
        for path in sorted(self.folder.iterdir()):
            with path.open("rb") as file:
                cells = np.frombuffer(file.read().ljust(8 * self.size, b"\0"))
                yield cells, _is_locked(file.fileno())


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
