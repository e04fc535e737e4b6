"""What the service has done so far, added up over all its processes.

Each process counts in a page of memory that a file stands behind: any worker can add up the files of all, and what a
killed worker had counted is not lost. A worker that lives holds a lock on its file, which no kill can leave behind.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Way = Literal["single", "batch"]
Outcome = Literal["loaded", "refused"]
WAYS = ("runs/single", "rows/single", "runs/batch", "rows/batch")
NAMES = (*WAYS, "overloads", "reloads/loaded", "reloads/refused", "unready")
SERIES: dict[str, int] = {name: slot for slot, name in enumerate(NAMES)}


class Counts:
    """This process's counts, and the sum of all. Without a folder this process is the only one."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        size = 8 * len(SERIES)
        if folder is None:
            self._page: mmap.mmap = mmap.mmap(-1, size)
        else:
            self._file = (folder / str(os.getpid())).open("a+b")  # a number used again goes on where the dead one was
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._file.truncate(size)
            self._page = mmap.mmap(self._file.fileno(), size)
        self._cells = memoryview(self._page).cast("d")
        self.ready(True)

    def ran(self, way: Way, rows: int) -> None:
        """The model has run once, over so many rows."""
        runs = SERIES[f"runs/{way}"]
        self._cells[runs] += 1
        self._cells[runs + 1] += rows

    def overload(self) -> None:
        """A request was sent away because too many waited."""
        self._cells[SERIES["overloads"]] += 1

    def reload(self, outcome: Outcome) -> None:
        """A new version of the model took over, or must not."""
        self._cells[SERIES[f"reloads/{outcome}"]] += 1

    def ready(self, yes: bool) -> None:
        """Whether this process can answer."""
        self._cells[SERIES["unready"]] = not yes

    def total(self, series: str) -> float:
        """The sum over all processes, those that have died included."""
        return float(sum(cells[SERIES[series]] for cells, _ in self._sheets()))

    def workers(self) -> tuple[int, int]:
        """How many processes live, and how many of these can answer."""
        living = [cells for cells, lives in self._sheets() if lives]
        return len(living), sum(not cells[SERIES["unready"]] for cells in living)

    def _sheets(self) -> Iterator[tuple[NDArray[np.float64], bool]]:
        """Each process's float64 counts, and whether it lives."""
        if self.folder is None:
            yield np.array(self._cells), True
            return
        for file in sorted(self.folder.iterdir()):
            with file.open("rb") as sheet:
                cells = np.frombuffer(sheet.read().ljust(8 * len(SERIES), b"\0"))
                yield cells, not _unlocked(sheet.fileno())


def _unlocked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
