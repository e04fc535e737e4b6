"""Find the input tables and plan their outputs: files, folders and globs, on disks or in object stores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Protocol

import pyarrow as pa
from pyarrow import fs

from service.cli.job import Kind, Outcome, Part, Tick, Usage

WILDCARDS = frozenset("*?[")
PIPE = "-"


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
    """Makes parts. identity: of the model; parts by another model are made again."""

    identity: str

    def attempts(self, plan: Plan, parts: list[Part], folder: str, tick: Tick, /) -> Iterator[Outcome]:
        """Yield the outcome of each part as it finishes, in any order; the outputs are hidden files in `folder`."""


@dataclass(frozen=True, slots=True)
class _Found:
    """An input file and its name relative to its folder or glob."""

    info: fs.FileInfo
    name: str
    is_explicit: bool  # given by its own name or a glob, not by its folder


def make_plan(
    inputs: Sequence[str], output: str, source_kind: Kind | None, target_kind: Kind | None, parts: bool
) -> Plan:
    """Plan the inputs and outputs of a command line. parts: OUT is always a folder. Raises Usage and OSError.

    One file gives one file; a folder, a glob or several files give a folder, with a part for each under its own name.
    """
    target, out = locate(output)
    if PIPE in (*inputs, output):
        return _piped(inputs, output, source_kind, target_kind, parts)
    source, found, several = _found(inputs)
    here = target.get_file_info(out).type
    parts |= several or output.endswith("/") or here == fs.FileType.Directory
    if here == fs.FileType.Unknown or (parts and here == fs.FileType.File):
        raise Usage(f"{output}: {'several inputs require a folder' if parts else 'neither a file nor a folder'}")
    own = f"{out}/" if parts and source.equals(target) else None  # outputs of earlier runs are not inputs
    found = [file for file in found if not own or not file.info.path.startswith(own)]
    kinds = [source_kind or Kind.of(file.info.path) for file in found]
    tables = [(file, kind) for file, kind in zip(found, kinds, strict=True) if kind]
    others = [file for file, kind in zip(found, kinds, strict=True) if not kind]
    if unknown := next((file.name for file in others if file.is_explicit), None):
        raise Usage(f"{unknown}: unknown format, give --format")
    if not tables:
        raise Usage(f"{', '.join(inputs)}: no table found")
    planned = [_part(file, kind, out, target_kind or Kind.of(output), parts) for file, kind in tables]
    _refuse_clashes(planned, source.equals(target))
    return Plan(planned, source, target, out if parts else None, [file.name for file in others])


def _refuse_clashes(parts: list[Part], same_system: bool) -> None:
    """Raise Usage if an output would replace its input or another output."""
    targets: dict[str, str] = {}
    for part in parts:
        if same_system and part.path == part.target:
            raise Usage(f"{part.name}: the output would replace its input")
        if part.target in targets:
            raise Usage(f"{part.path} and {targets[part.target]} would both be written to {part.name}")
        targets[part.target] = part.path


def locate(text: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a path or URL, and the path on it. Raises Usage."""
    if "://" not in text:
        return fs.LocalFileSystem(), str(Path(text).absolute())
    try:
        system, path = fs.FileSystem.from_uri(text)
    except (pa.ArrowException, OSError, ValueError):  # their messages repeat the URL, which may contain a secret
        raise Usage(f"{text.split('://')[0]}://...: not a URL of an object store that pyarrow can open") from None
    return system, path.rstrip("/")


def _piped(inputs: Sequence[str], output: str, source_kind: Kind | None, target_kind: Kind | None, parts: bool) -> Plan:
    """Plan one table from stdin or to stdout."""
    if len(inputs) > 1 or parts:
        raise Usage("stdin and stdout take one table and no cluster")
    if inputs[0] == PIPE:
        if not source_kind:
            raise Usage("stdin: give --format")
        one = Part("stdin", PIPE, None, 0, source_kind.name, "", "")
        source: fs.FileSystem = fs.LocalFileSystem()
    else:
        source, found, several = _found(inputs)
        kind = source_kind or Kind.of(inputs[0])
        if several or not kind:
            raise Usage("stdout takes one table" if several else f"{inputs[0]}: unknown format, give --format")
        one = _part(found[0], kind, "", kind, False)
    target, path = locate(output)
    target_kind = target_kind or Kind.of(output) or Kind(one.source_kind)
    if output != PIPE and target.get_file_info(path).type not in (fs.FileType.NotFound, fs.FileType.File):
        raise Usage(f"{output}: not a file")
    end = PIPE if output == PIPE else path
    return Plan(
        [Part(one.name, one.path, one.size, one.changed, one.source_kind, end, target_kind.name)],
        source,
        target,
        None,
        [],
    )


def _part(file: _Found, source_kind: Kind, out: str, target_kind: Kind | None, parts: bool) -> Part:
    target_kind, name = target_kind or source_kind, file.name
    if parts:
        own = Kind.of(name)
        name = f"{name[: -len(own.name) - 1] if own else name}.{target_kind.name}"
    size = file.info.size if file.info.is_file else None
    target = f"{out}/{name}" if parts else out
    return Part(name, file.info.path, size, file.info.mtime_ns or 0, source_kind.name, target, target_kind.name)


def _found(inputs: Sequence[str]) -> tuple[fs.FileSystem, list[_Found], bool]:
    """Return the file system and the files, in order, and whether there may be several."""
    system: fs.FileSystem | None = None
    found: list[_Found] = []
    several = len(inputs) > 1
    for text in inputs:
        here, path = locate(text)
        if system and not system.equals(here):
            raise Usage("all inputs must be on one file system")
        system = here
        info = here.get_file_info(path)
        if info.type == fs.FileType.Directory:
            several = True
            found += _below(here, path)
        elif info.type != fs.FileType.NotFound:
            found.append(_Found(info, info.base_name, True))
        elif WILDCARDS & set(path):
            several = True
            root, pattern = _split(path)
            matched = {match.path: match for match in _glob(here, root, pattern)}
            below = len(root.rstrip("/")) + 1
            found += [_Found(matched[path], path[below:], True) for path in sorted(matched)]
        else:
            raise Usage(f"{text}: no such file or folder")
    assert system
    return system, found, several


def _below(system: fs.FileSystem, folder: str) -> Iterator[_Found]:
    """Yield all files below a folder; names that begin with . or _ are skipped."""
    infos = {info.path: info for info in system.get_file_info(fs.FileSelector(folder, recursive=True))}
    for path in sorted(infos):
        name = path[len(folder.rstrip("/")) + 1 :]
        if infos[path].is_file and not any(word.startswith((".", "_")) for word in name.split("/")):
            yield _Found(infos[path], name, False)


def _split(path: str) -> tuple[str, list[str]]:
    """Split a glob into the folder before the first wildcard and the pattern of each level below."""
    words = PurePosixPath(path).parts
    first = next(i for i, word in enumerate(words) if WILDCARDS & set(word))
    return str(PurePosixPath(*words[:first])), list(words[first:])


def _glob(system: fs.FileSystem, folder: str, pattern: list[str]) -> Iterator[fs.FileInfo]:
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
