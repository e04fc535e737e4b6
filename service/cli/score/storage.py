"""Files on disks and in object stores.

On disks, file names may be any bytes. pyarrow takes UTF-8 only, and follows links in circles: there, `pathlib` is used.
"""

import contextlib
import os
import stat
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import IO, Any, ClassVar, Literal, Protocol

import click
import pyarrow as pa
from pyarrow import fs

EntryKind = Literal["file", "folder", "other"]
PIPE = "-"  # stdin or stdout, in place of a path


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, a folder, or another thing, such as a named pipe.

    size, changed: of a file, in bytes and ns
    identity: of a file or folder on a disk, whatever its name; is_link: whether its last name is a symbolic link
    """

    path: str
    kind: EntryKind
    size: int | None = None
    changed: int = 0
    identity: tuple[int, int] | None = None
    is_link: bool = False

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class Storage(Protocol):
    """Files under absolute paths with `/`. Every method raises OSError."""

    is_local: ClassVar[bool]

    def find(self, path: str, /) -> Entry | None:
        """Return what is at a path, links followed, or None."""

    def children(self, folder: str, /) -> list[Entry]:
        """Return what is in a folder, by name; nothing if there is no such folder. Broken links are left out."""

    def tree(self, folder: str, hidden: tuple[str, ...], /) -> list[Entry]:
        """Return all folders and files below a folder, but what begins with a `hidden` prefix, and what is below it.

        Each folder is listed once, under its own name if that is below `folder`, even if links lead to it.
        """

    def open(self, path: str, /, is_seekable: bool) -> IO[bytes]:
        """Open a file for reading."""

    def create(self, path: str, /) -> IO[bytes]:
        """Create a file for writing."""

    def make_folder(self, path: str, /) -> None:
        """Create a folder and those above it, unless they exist."""

    def replace(self, source: str, target: str, /) -> None:
        """Rename a file, and replace what is there."""

    def remove(self, path: str, /) -> None:
        """Delete a file, if it exists."""


@dataclass(frozen=True, slots=True)
class Disk:
    """The Storage of this machine's paths."""

    is_local: ClassVar[bool] = True

    def find(self, path: str) -> Entry | None:
        try:
            return _entry(Path(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def children(self, folder: str) -> list[Entry]:
        try:
            paths = sorted(Path(folder).iterdir())
        except FileNotFoundError:
            return []
        found = []
        for path in paths:
            with contextlib.suppress(OSError):  # a broken link, or removed meanwhile
                found.append(_entry(path))
        return found

    def tree(self, folder: str, hidden: tuple[str, ...]) -> list[Entry]:
        found: list[Entry] = []
        seen: set[object] = set()
        folders, links = deque(filter(None, [self.find(folder)])), deque[Entry]()
        while folders or links:
            here = (folders or links).popleft()  # links last: a folder is listed under its own name
            if here.identity in seen:
                continue
            seen.add(here.identity)
            found.append(here)
            for entry in self.children(here.path):
                if entry.name.startswith(hidden):
                    continue
                if entry.kind != "folder":
                    found.append(entry)
                else:
                    (links if entry.is_link else folders).append(entry)
        return sorted(found[1:], key=attrgetter("path"))

    def open(self, path: str, is_seekable: bool) -> IO[bytes]:  # noqa: ARG002  # every file is
        return Path(path).open("rb")

    def create(self, path: str) -> IO[bytes]:
        return Path(path).open("xb")

    def make_folder(self, path: str) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)

    def replace(self, source: str, target: str) -> None:
        with Path(source).open("rb+") as file:
            os.fsync(file.fileno())
        Path(source).replace(target)

    def remove(self, path: str) -> None:
        Path(path).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """The Storage of a pyarrow file system."""

    is_local: ClassVar[bool] = False

    system: fs.FileSystem

    def find(self, path: str) -> Entry | None:
        return next(iter(_entries([self.system.get_file_info(path)])), None)

    def children(self, folder: str) -> list[Entry]:
        return _entries(self.system.get_file_info(fs.FileSelector(folder, allow_not_found=True)))

    def tree(self, folder: str, hidden: tuple[str, ...]) -> list[Entry]:
        found = _entries(self.system.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=True)))
        start = len(folder.rstrip("/")) + 1
        return [entry for entry in found if not any(name.startswith(hidden) for name in entry.path[start:].split("/"))]

    def open(self, path: str, is_seekable: bool) -> Any:
        return self.system.open_input_file(path) if is_seekable else self.system.open_input_stream(path, None)

    def create(self, path: str) -> Any:
        return self.system.open_output_stream(path, compression=None)

    def make_folder(self, path: str) -> None:
        self.system.create_dir(path)

    def replace(self, source: str, target: str) -> None:
        self.system.move(source, target)

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.system.delete_file(path)


def locate(text: str) -> tuple[Storage, str]:
    """Return the storage of a path or URL, and the path on it; PIPE stays. Raises click.UsageError."""
    if text == PIPE:
        return Disk(), PIPE
    if not text:
        raise click.UsageError("a path is empty")  # for pathlib it is the current folder; here, an unset variable
    if "://" not in text:
        path = Path(text).absolute()
        is_named = path.name not in ("", "..")  # then a link itself is kept: its name is that of the part
        return Disk(), str(Path(os.path.realpath(path.parent), path.name)) if is_named else os.path.realpath(path)
    try:
        system, path = fs.FileSystem.from_uri(text)
    except (pa.ArrowException, OSError, ValueError):  # their messages repeat the URL, which may contain a secret
        scheme = text.split("://")[0]
        raise click.UsageError(f"{scheme}://...: not a URL of an object store that pyarrow can open") from None
    return Disk() if isinstance(system, fs.LocalFileSystem) else ObjectStore(system), path.rstrip("/")


def is_same_file(storage: Storage, path: str, other_storage: Storage, other: str) -> bool:
    """Return whether two paths are of one file, which may not exist, or the same file by links. Raises OSError."""
    if storage != other_storage or PIPE in (path, other):
        return False
    found, others = (storage.find(each) if storage.is_local else None for each in (path, other))
    return path == other or bool(found and others and found.identity == others.identity)


def folder_of(path: str) -> str:
    """Return the folder of a file; "" for PIPE."""
    return "" if path == PIPE else path.rpartition("/")[0] or "/"


def has_raw_bytes(text: str) -> bool:
    """Return whether a path has bytes that are not UTF-8."""
    return any("\ud800" <= char <= "\udfff" for char in text)


def _entry(path: Path) -> Entry:
    status = path.stat()
    kind: EntryKind = "file" if stat.S_ISREG(status.st_mode) else "folder" if stat.S_ISDIR(status.st_mode) else "other"
    size = status.st_size if kind == "file" else None
    identity = (status.st_dev, status.st_ino)
    return Entry(path.as_posix(), kind, size, status.st_mtime_ns, identity, path.is_symlink())


def _entries(infos: Iterable[fs.FileInfo]) -> list[Entry]:
    kinds: dict[fs.FileType, EntryKind] = {fs.FileType.File: "file", fs.FileType.Directory: "folder"}
    found = [
        Entry(info.path, kinds.get(info.type, "other"), info.size, info.mtime_ns or 0)
        for info in infos
        if info.type != fs.FileType.NotFound
    ]
    return sorted(found, key=attrgetter("path"))
