"""Outputs that appear only when they are complete, and the record of a folder's finished parts.

A folder of parts also holds `.parts/`: a note on each finished part, written after the part, and the hidden files of
parts that are being written. Readers of folders skip names that begin with a dot.
"""

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
from pyarrow import fs

from service.cli.score.job import Job, Outcome, Part

try:
    import fcntl
except ImportError:  # Windows: two runs at once are not detected
    fcntl = None  # type: ignore[assignment]

FORMAT_VERSION = 2  # raise it when the same input and model give another output
NOTES = ".parts"
HIDDEN = ".writing-"
ABANDONED_SECONDS = 3600  # older hidden files were left by a killed run


@contextlib.contextmanager
def hidden_file(system: fs.FileSystem, folder: str) -> Iterator[tuple[str, pa.NativeFile]]:
    """Create a hidden file and yield it with its path; `commit` renames it, a failure removes it."""
    system.create_dir(folder)
    path = f"{folder}/{HIDDEN}{secrets.token_hex(8)}"
    try:
        with system.open_output_stream(path, compression=None) as stream:
            yield path, stream
    except BaseException:
        remove(system, path)
        raise


def commit(system: fs.FileSystem, hidden: str, path: str) -> None:
    """Rename a hidden file to `path`, and replace what is there."""
    system.create_dir(path.rpartition("/")[0])
    if isinstance(system, fs.LocalFileSystem):
        with Path(hidden).open("rb+") as file:
            os.fsync(file.fileno())
        Path(hidden).replace(path)
    else:
        system.move(hidden, path)


def remove(system: fs.FileSystem, path: str) -> None:
    """Delete a file, if it exists."""
    with contextlib.suppress(FileNotFoundError):
        system.delete_file(path)


def remove_hidden(system: fs.FileSystem, folder: str, age: float = 0) -> None:
    """Remove hidden files that are older than `age` seconds."""
    for info in system.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
        if info.base_name.startswith(HIDDEN) and time.time() - (info.mtime_ns or 0) / 1e9 >= age:
            remove(system, info.path)


class Folder:
    """A folder of parts on any file system; a context manager that locks it on a local disk."""

    def __init__(self, system: fs.FileSystem, path: str, job: Job, identity: str) -> None:
        self.system, self.path, self.job, self.identity = system, path, job, identity
        self.notes = f"{path}/{NOTES}"
        self.lock = contextlib.ExitStack()

    def __enter__(self) -> "Folder":
        """Raises click.UsageError if another run is writing to the folder."""
        self.system.create_dir(self.notes)
        if fcntl and isinstance(self.system, fs.LocalFileSystem):
            file = self.lock.enter_context(Path(self.notes, "lock").open("w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.lock.close()
                raise click.UsageError(f"{self.path}: another run is writing there") from None
        remove_hidden(self.system, self.notes)
        return self

    def __exit__(self, *_: object) -> None:
        remove_hidden(self.system, self.notes)
        self.lock.close()

    def finished(self, part: Part) -> Outcome | None:
        """Return the outcome of a finished part, if the same input, options and model made it; else remove it."""
        try:
            with self.system.open_input_stream(self._note(part), compression=None) as stream:
                note = json.loads(stream.read())
            if note["made_of"] == self._made_of(part) and note["file"] == self._file(part):
                return Outcome.from_dict(note["outcome"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no valid note
        remove(self.system, self._note(part))
        remove(self.system, part.target)
        return None

    def commit(self, part: Part, outcome: Outcome) -> None:
        """Rename the hidden file of a part, then write the note."""
        assert outcome.hidden
        commit(self.system, outcome.hidden, part.target)
        outcome.hidden = None
        note = {"made_of": self._made_of(part), "file": self._file(part), "outcome": asdict(outcome)}
        with hidden_file(self.system, self.notes) as (hidden, stream):
            stream.write(json.dumps(note).encode())
        commit(self.system, hidden, self._note(part))

    def other_parts(self, parts: list[Part]) -> list[str]:
        """Return the names of finished parts that are not among these."""
        selector = fs.FileSelector(self.notes, allow_not_found=True, recursive=True)
        notes = [info.path for info in self.system.get_file_info(selector) if info.path.endswith(".json")]
        return sorted({note[len(self.notes) + 1 : -5] for note in notes} - {part.name for part in parts})

    def _note(self, part: Part) -> str:
        return f"{self.notes}/{part.name}.json"

    def _made_of(self, part: Part) -> list[Any]:
        job = [list(self.job.keep), self.job.report, part.source_kind.name, part.target_kind.name]
        path = hashlib.sha256(part.path.encode(errors="surrogateescape")).hexdigest()
        return [FORMAT_VERSION, path, part.size, part.changed, job, self.identity]

    def _file(self, part: Part) -> list[int]:
        info = self.system.get_file_info(part.target)
        return [info.size or 0, info.mtime_ns or 0]
