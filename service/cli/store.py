"""Answers that are whole or not there, and a folder's memory of which are finished.

A folder of parts holds beside them `.parts/`: a note on each finished part, which is written after it, and the hidden
files of those that are being written. Readers of folders leave out what begins with a dot.
"""

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from service.cli.job import Job, Outcome, Part, Usage

try:
    import fcntl
except ImportError:  # Windows: there two runs at once are not told from one another
    fcntl = None  # type: ignore[assignment]

ANSWERS = 1  # raise it when the same input and model give other answers
NOTES = ".parts"
HIDDEN = ".writing-"
ABANDONED = 3600  # seconds after which a hidden file beside others is what a killed run has left


@contextlib.contextmanager
def hidden_file(system: fs.FileSystem, folder: str) -> Iterator[tuple[str, pa.NativeFile]]:
    """A new file that no reader takes for one, with its path; `commit` names it, a failure removes it."""
    system.create_dir(folder)
    path = f"{folder}/{HIDDEN}{secrets.token_hex(8)}"
    try:
        with system.open_output_stream(path, compression=None) as stream:
            yield path, stream
    except BaseException:
        remove(system, path)
        raise


def commit(system: fs.FileSystem, hidden: str, path: str) -> None:
    """Give a hidden file its name. Whatever had that name is there until then."""
    system.create_dir(path.rpartition("/")[0])
    if isinstance(system, fs.LocalFileSystem):
        with Path(hidden).open("rb+") as file:
            os.fsync(file.fileno())
        Path(hidden).replace(path)
    else:
        system.move(hidden, path)


def remove(system: fs.FileSystem, path: str) -> None:
    """Delete a file that may be gone already."""
    with contextlib.suppress(FileNotFoundError):
        system.delete_file(path)


def sweep(system: fs.FileSystem, folder: str, age: float = 0) -> None:
    """Remove hidden files that are older than this many seconds."""
    for info in system.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
        if info.base_name.startswith(HIDDEN) and time.time() - (info.mtime_ns or 0) / 1e9 >= age:
            remove(system, info.path)


class Folder:
    """A folder of parts, on any file system; on a disk it is locked. A context manager."""

    def __init__(self, system: fs.FileSystem, path: str, job: Job, identity: str) -> None:
        self.system, self.path, self.job, self.identity = system, path, job, identity
        self.notes = f"{path}/{NOTES}"
        self.lock = contextlib.ExitStack()

    def __enter__(self) -> "Folder":
        """Raises Usage where another run writes to the folder."""
        self.system.create_dir(self.notes)
        if fcntl and isinstance(self.system, fs.LocalFileSystem):
            file = self.lock.enter_context(Path(self.notes, "lock").open("w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.lock.close()
                raise Usage(f"{self.path}: another run is writing there") from None
        sweep(self.system, self.notes)
        return self

    def __exit__(self, *_: object) -> None:
        sweep(self.system, self.notes)
        self.lock.close()

    def finished(self, part: Part) -> Outcome | None:
        """What came of a part, if it is there and the same input, options and model would make it again.

        A part that is there and is another's is removed: it must not pass for this one's.
        """
        try:
            with self.system.open_input_stream(self._note(part), compression=None) as stream:
                note = json.loads(stream.read())
            if note["made_of"] == self._made_of(part) and note["file"] == self._file(part):
                return Outcome.from_dict(note["outcome"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no note, or none of ours
        remove(self.system, self._note(part))
        remove(self.system, part.target)
        return None

    def commit(self, part: Part, outcome: Outcome) -> None:
        """The part's hidden file takes its name, and then a note says so."""
        assert outcome.hidden
        commit(self.system, outcome.hidden, part.target)
        outcome.hidden = None
        note = {"made_of": self._made_of(part), "file": self._file(part), "outcome": outcome.as_dict()}
        with hidden_file(self.system, self.notes) as (hidden, stream):
            stream.write(json.dumps(note).encode())
        commit(self.system, hidden, self._note(part))

    def strangers(self, parts: list[Part]) -> list[str]:
        """Parts of earlier runs that are none of these."""
        selector = fs.FileSelector(self.notes, allow_not_found=True, recursive=True)
        notes = [info.path for info in self.system.get_file_info(selector) if info.path.endswith(".json")]
        return sorted({note[len(self.notes) + 1 : -5] for note in notes} - {part.name for part in parts})

    def _note(self, part: Part) -> str:
        return f"{self.notes}/{part.name}.json"

    def _made_of(self, part: Part) -> list[Any]:
        job = [list(self.job.keep), self.job.report, part.came, part.to]
        path = hashlib.sha256(part.path.encode(errors="surrogateescape")).hexdigest()
        return [ANSWERS, path, part.size, part.changed, job, self.identity]

    def _file(self, part: Part) -> list[int]:
        info = self.system.get_file_info(part.target)
        return [info.size or 0, info.mtime_ns or 0]
