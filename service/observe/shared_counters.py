"""A page of numbers for each process, which all processes can read and no kill can take away.

Each counts in a page of memory that a file stands behind: any worker can add up the files of all, and what a killed
worker had counted is not lost. A worker that lives holds a lock on its file, which no kill can leave behind.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Cells = NDArray[np.float64]


class ProcessCounters(NamedTuple):
    """What a process has in its page, and whether it lives."""

    cells: Cells
    lives: bool


class SharedCounters:
    """This process's page: `size` float64 cells, 0 at first. Without a folder this process is the only one.

    cells: to count one thing; all: the same memory, to count many at once
    """

    def __init__(self, folder: Path | None, size: int) -> None:
        self.folder, self.size = folder, size
        if folder is None:
            self._memory: mmap.mmap = mmap.mmap(-1, 8 * size)
        else:
            self._file = (folder / str(os.getpid())).open("a+b")  # a number used again goes on where the dead one was
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._file.truncate(8 * size)
            self._memory = mmap.mmap(self._file.fileno(), 8 * size)
        self.cells = memoryview(self._memory).cast("d")
        self.all: Cells = np.frombuffer(self._memory)

    def sheets(self) -> Iterator[ProcessCounters]:
        """Those of all processes, as they are now."""
        if self.folder is None:
            yield ProcessCounters(self.all.copy(), True)
            return
        for file in sorted(self.folder.iterdir()):
            with file.open("rb") as sheet:
                cells = np.frombuffer(sheet.read().ljust(8 * self.size, b"\0"))
                yield ProcessCounters(cells, not _unlocked(sheet.fileno()))


def _unlocked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
