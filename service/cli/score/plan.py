"""Find the input tables and plan their outputs: files, folders and globs, on disks or in object stores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Protocol

import click
import pyarrow as pa
from pyarrow import fs

from service.cli.score.job import PIPE, Kind, Outcome, Part, Tick

WILDCARDS = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts, the file systems of inputs and outputs, and the folder of the parts, if there is one.

    others: files of a folder that are not tables
    """

    parts: list[Part]
    source: fs.FileSystem
    target: fs.FileSystem
    folder: str | None
    others: list[str]


class Executor(Protocol):
    """Scores parts by one or more engines. identity: that of the engines."""

    identity: str

    def attempts(self, plan: Plan, folder: str, tick: Tick, /) -> Iterator[Outcome]:
        """Yield the outcome of each part as it finishes, in any order; the outputs are hidden files in `folder`."""


@dataclass(frozen=True, slots=True)
class _Input:
    """An input file and its name relative to its folder or glob."""

    info: fs.FileInfo
    name: str
    is_explicit: bool  # given by its own name or a glob, not by its folder


def make_plan(
    inputs: Sequence[str], output: str, source_kind: Kind | None, target_kind: Kind | None, parts: bool
) -> Plan:
    """Plan the inputs and outputs of a command line. parts: OUT is always a folder. Raises UsageError and OSError.

    One file gives one file; a folder, a glob or several files give a folder, with a part for each under its own name.
    """
    target, out = locate(output)
    source, found, several = _find_inputs(inputs)
    here = fs.FileType.NotFound if out == PIPE else target.get_file_info(out).type
    parts |= several or output.endswith("/") or here == fs.FileType.Directory
    if parts and PIPE in (*inputs, output):
        raise click.UsageError("stdin and stdout take one table: no folder, no cluster")
    if here == fs.FileType.Unknown or (parts and here == fs.FileType.File):
        wanted = "several inputs require a folder" if parts else "neither a file nor a folder"
        raise click.UsageError(f"{output}: {wanted}")
    own = f"{out}/" if parts and source.equals(target) else None  # outputs of earlier runs are not inputs
    found = [file for file in found if not own or not file.info.path.startswith(own)]
    kinds = [source_kind or Kind.of(file.info.path) for file in found]
    tables = [(file, kind) for file, kind in zip(found, kinds, strict=True) if kind]
    others = [file for file, kind in zip(found, kinds, strict=True) if not kind]
    if unknown := next((file.name for file in others if file.is_explicit), None):
        raise click.UsageError(f"{unknown}: unknown format, give --format")
    if not tables:
        raise click.UsageError(f"{', '.join(inputs)}: no table found")
    planned = [_part(file, kind, out, target_kind or Kind.of(output) or kind, parts) for file, kind in tables]
    targets: dict[str, str] = {}
    for part in planned:
        if source.equals(target) and part.path == part.target != PIPE:
            raise click.UsageError(f"{part.name}: the output would replace its input")
        if part.target in targets:
            raise click.UsageError(f"{part.path} and {targets[part.target]} would both be written to {part.name}")
        targets[part.target] = part.path
    return Plan(planned, source, target, out if parts else None, [file.name for file in others])


def locate(text: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a path or URL, and the path on it; PIPE stays. Raises click.UsageError."""
    if text == PIPE:
        return fs.LocalFileSystem(), PIPE
    if "://" not in text:
        return fs.LocalFileSystem(), str(Path(text).absolute())
    try:
        system, path = fs.FileSystem.from_uri(text)
    except (pa.ArrowException, OSError, ValueError):  # their messages repeat the URL, which may contain a secret
        scheme = text.split("://")[0]
        raise click.UsageError(f"{scheme}://...: not a URL of an object store that pyarrow can open") from None
    return system, path.rstrip("/")


def _part(file: _Input, source_kind: Kind, out: str, target_kind: Kind, parts: bool) -> Part:
    name, target = file.name, out
    if parts:
        own = Kind.of(name)
        name = f"{name[: -len(own.name) - 1] if own else name}.{target_kind.name}"
        target = f"{out}/{name}"
    size = file.info.size if file.info.is_file else None
    return Part(name, file.info.path, size, file.info.mtime_ns or 0, source_kind, target, target_kind)


def _find_inputs(inputs: Sequence[str]) -> tuple[fs.FileSystem, list[_Input], bool]:
    """Return the file system and the files, in order, and whether there may be several."""
    system: fs.FileSystem | None = None
    found: list[_Input] = []
    several = len(inputs) > 1
    for text in inputs:
        here, path = locate(text)
        if system and not system.equals(here):
            raise click.UsageError("all inputs must be on one file system")
        system = here
        info = fs.FileInfo(PIPE, fs.FileType.Unknown) if path == PIPE else here.get_file_info(path)
        if info.type == fs.FileType.Directory:
            several = True
            below = here.get_file_info(fs.FileSelector(path, recursive=True))
            for info in sorted(below, key=attrgetter("path")):
                name = info.path[len(path.rstrip("/")) + 1 :]
                if info.is_file and not any(word.startswith((".", "_")) for word in name.split("/")):
                    found.append(_Input(info, name, False))
        elif info.type != fs.FileType.NotFound:
            found.append(_Input(info, "stdin" if path == PIPE else info.base_name, True))
        elif WILDCARDS & set(path):
            several = True
            words = PurePosixPath(path).parts
            first = next(i for i, word in enumerate(words) if WILDCARDS & set(word))
            root = str(PurePosixPath(*words[:first]))
            matched = {match.path: match for match in _glob(here, root, words[first:])}
            start = len(root.rstrip("/")) + 1
            found += [_Input(matched[path], path[start:], True) for path in sorted(matched)]
        else:
            raise click.UsageError(f"{text}: no such file or folder")
    assert system
    return system, found, several


def _glob(system: fs.FileSystem, folder: str, pattern: Sequence[str]) -> Iterator[fs.FileInfo]:
    head, *rest = pattern
    if head == "**":
        below = system.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=True))
        folders = [info.path for info in below if info.type == fs.FileType.Directory]
        for each in (folder, *(path for path in folders if "/." not in path[len(folder) :])):
            yield from _glob(system, each, rest or ["*"])
        return
    for info in system.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
        hidden = info.base_name.startswith(".") and not head.startswith(".")
        if hidden or not fnmatchcase(info.base_name, head):
            continue
        if not rest and info.is_file:
            yield info
        elif rest and info.type == fs.FileType.Directory:
            yield from _glob(system, info.path, rest)
