"""Outputs that appear only when they are complete, and the record of a folder's finished parts.

A folder of parts also holds `.parts/`: a note on each finished part, written after the part, and the hidden files of
parts that are being written. Readers of folders skip names that begin with a dot.
"""

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import click

from service.cli.score.job import Job, Outcome, Part
from service.cli.score.storage import Storage, folder_of

try:
    import fcntl
except ImportError:  # Windows: two runs at once are not detected
    fcntl = None  # type: ignore[assignment]

FORMAT_VERSION = 2  # raise it when the same input and model give another output
NOTES = ".parts"
HIDDEN = ".writing-"
ABANDONED_SECONDS = 3600  # older hidden files were left by a killed run


@contextlib.contextmanager
def hidden_file(storage: Storage, folder: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Create a hidden file and yield it with its path; `commit` renames it, a failure removes it."""
    storage.make_folder(folder)
    path = f"{folder}/{HIDDEN}{secrets.token_hex(8)}"
    try:
        with storage.create(path) as stream:
            yield path, stream
    except BaseException:
        storage.remove(path)
        raise


def commit(storage: Storage, hidden: str, path: str) -> None:
    """Rename a hidden file to `path`, and replace what is there."""
    storage.make_folder(folder_of(path))
    storage.replace(hidden, path)


def remove_hidden(storage: Storage, folder: str, age: float = 0) -> None:
    """Remove hidden files that are older than `age` seconds."""
    for entry in storage.children(folder):
        if entry.name.startswith(HIDDEN) and time.time() - entry.changed / 1e9 >= age:
            storage.remove(entry.path)


class Folder:
    """A folder of parts on any storage; a context manager that locks it on a disk."""

    def __init__(self, storage: Storage, path: str, job: Job, identity: str) -> None:
        self.storage, self.path, self.job, self.identity = storage, path, job, identity
        self.notes = f"{path}/{NOTES}"
        self.lock = contextlib.ExitStack()

    def __enter__(self) -> "Folder":
        """Raises click.UsageError if another run is writing to the folder."""
        self.storage.make_folder(self.notes)
        if fcntl and self.storage.is_local:
            file = self.lock.enter_context(Path(self.notes, "lock").open("w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.lock.close()
                raise click.UsageError(f"{self.path}: another run is writing there") from None
        remove_hidden(self.storage, self.notes)
        return self

    def __exit__(self, *_: object) -> None:
        remove_hidden(self.storage, self.notes)
        self.lock.close()

    def finished(self, part: Part) -> Outcome | None:
        """Return the outcome of a finished part, if the same input, options and model made it; else remove it."""
        try:
            with self.storage.open(self._note(part), is_seekable=False) as stream:
                note = json.loads(stream.read())
            if note["made_of"] == self._made_of(part) and note["file"] == self._file(part):
                return Outcome.from_dict(note["outcome"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no valid note
        self.storage.remove(self._note(part))
        self.storage.remove(part.target)
        return None

    def commit(self, part: Part, outcome: Outcome) -> None:
        """Rename the hidden file of a part, then write the note."""
        assert outcome.hidden
        commit(self.storage, outcome.hidden, part.target)
        outcome.hidden = None
        note = {"made_of": self._made_of(part), "file": self._file(part), "outcome": asdict(outcome)}
        with hidden_file(self.storage, self.notes) as (hidden, stream):
            stream.write(json.dumps(note).encode())
        commit(self.storage, hidden, self._note(part))

    def other_parts(self, parts: list[Part]) -> list[str]:
        """Return the names of finished parts that are not among these."""
        below = self.storage.tree(self.notes, (HIDDEN,))
        notes = [entry.path for entry in below if entry.path.endswith(".json")]
        return sorted({note[len(self.notes) + 1 : -5] for note in notes} - {part.name for part in parts})

    def _note(self, part: Part) -> str:
        return f"{self.notes}/{part.name}.json"

    def _made_of(self, part: Part) -> list[Any]:
        job = [list(self.job.keep), self.job.report, part.source_kind.name, part.target_kind.name]
        path = hashlib.sha256(part.path.encode(errors="surrogateescape")).hexdigest()
        return [FORMAT_VERSION, path, part.size, part.changed, job, self.identity]

    def _file(self, part: Part) -> list[int]:
        entry = self.storage.find(part.target)
        return [entry.size or 0, entry.changed] if entry else [0, 0]
