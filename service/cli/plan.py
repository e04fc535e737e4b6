"""Which tables are meant, and where the answers to each go: files, folders, globs, on disks or in object stores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Protocol

import pyarrow as pa
from pyarrow import fs

from service.cli.job import Kind, Outcome, Part, Tick, Usage

MAGIC = frozenset("*?[")
PIPE = "-"


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts, the file systems they are read from and written to, and the folder of all, if they are in one.

    others: files of a folder that are no tables
    """

    parts: list[Part]
    source: fs.FileSystem
    target: fs.FileSystem
    folder: str | None
    others: list[str]


class Executor(Protocol):
    """What makes parts. identity: of the model, so that the parts of another are made anew."""

    identity: str

    def attempts(self, found: Plan, parts: list[Part], folder: str, tick: Tick, /) -> Iterator[Outcome]:
        """What comes of each part, once a part, in any order, when it is known; the answers lie hidden in `folder`."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A file and what it is called below the folder or glob that names it."""

    info: fs.FileInfo
    name: str
    chosen: bool  # by its own name or a glob, not with its folder


def plan(inputs: Sequence[str], output: str, came: Kind | None, to: Kind | None, parts: bool) -> Plan:
    """What the command line names. `parts`: a folder in any case. Raises Usage and OSError.

    One file gives one file; a folder, a glob or several files give a folder, with a part for each under its own name.
    """
    target, out = located(output)
    if PIPE in (*inputs, output):
        return _piped(inputs, output, came, to, parts)
    source, found, several = _found(inputs)
    here = target.get_file_info(out).type
    parts |= several or output.endswith("/") or here == fs.FileType.Directory
    if here == fs.FileType.Unknown or (parts and here == fs.FileType.File):
        raise Usage(f"{output}: {'several inputs need a folder' if parts else 'neither a file nor a folder'}")
    mine = f"{out}/" if parts and source.equals(target) else None  # what was written before is not read
    found = [file for file in found if not mine or not file.info.path.startswith(mine)]
    kinds = [came or Kind.of(file.info.path) for file in found]
    tables = [(file, kind) for file, kind in zip(found, kinds, strict=True) if kind]
    others = [file for file, kind in zip(found, kinds, strict=True) if not kind]
    if chosen := next((file.name for file in others if file.chosen), None):
        raise Usage(f"{chosen}: --format must tell what it is")
    if not tables:
        raise Usage(f"{', '.join(inputs)}: no table is there")
    made = [_part(file, kind, out, to or Kind.of(output), parts) for file, kind in tables]
    _refuse_clashes(made, source.equals(target))
    return Plan(made, source, target, out if parts else None, [file.name for file in others])


def _refuse_clashes(parts: list[Part], same_system: bool) -> None:
    """Raise Usage where an answer would replace its input, or another answer."""
    targets: dict[str, str] = {}
    for part in parts:
        if same_system and part.path == part.target:
            raise Usage(f"{part.name}: the answer would replace its input")
        if part.target in targets:
            raise Usage(f"{part.path} and {targets[part.target]} would both be written to {part.name}")
        targets[part.target] = part.path


def located(text: str) -> tuple[fs.FileSystem, str]:
    """The file system that a path or URL names, and the path on it. Raises Usage."""
    if "://" not in text:
        return fs.LocalFileSystem(), str(Path(text).absolute())
    try:
        system, path = fs.FileSystem.from_uri(text)
    except (pa.ArrowException, OSError, ValueError):  # whose message would repeat the URL, which may hold a secret
        raise Usage(f"{text.split('://')[0]}://...: not a URL of an object store that pyarrow can open") from None
    return system, path.rstrip("/")


def _piped(inputs: Sequence[str], output: str, came: Kind | None, to: Kind | None, parts: bool) -> Plan:
    """With stdin or stdout."""
    if len(inputs) > 1 or parts:
        raise Usage("stdin and stdout take one table, and no cluster")
    if inputs[0] == PIPE:
        if not came:
            raise Usage("stdin: --format must tell what it is")
        one = Part("stdin", PIPE, None, 0, came.name, "", "")
        source: fs.FileSystem = fs.LocalFileSystem()
    else:
        source, found, several = _found(inputs)
        kind = came or Kind.of(inputs[0])
        if several or not kind:
            raise Usage("stdout takes one table" if several else f"{inputs[0]}: --format must tell what it is")
        one = _part(found[0], kind, "", kind, False)
    target, path = located(output)
    to = to or Kind.of(output) or Kind(one.came)
    if output != PIPE and target.get_file_info(path).type not in (fs.FileType.NotFound, fs.FileType.File):
        raise Usage(f"{output}: not a file")
    end = PIPE if output == PIPE else path
    return Plan([Part(one.name, one.path, one.size, one.changed, one.came, end, to.name)], source, target, None, [])


def _part(file: _Found, came: Kind, out: str, to: Kind | None, parts: bool) -> Part:
    to, name = to or came, file.name
    if parts:
        own = Kind.of(name)
        name = f"{name[: -len(own.name) - 1] if own else name}.{to.name}"
    size = file.info.size if file.info.is_file else None
    target = f"{out}/{name}" if parts else out
    return Part(name, file.info.path, size, file.info.mtime_ns or 0, came.name, target, to.name)


def _found(inputs: Sequence[str]) -> tuple[fs.FileSystem, list[_Found], bool]:
    """The files, in order, and whether there may be several."""
    system: fs.FileSystem | None = None
    found: list[_Found] = []
    several = len(inputs) > 1
    for text in inputs:
        here, path = located(text)
        if system and not system.equals(here):
            raise Usage("all inputs must lie on one file system")
        system = here
        info = here.get_file_info(path)
        if info.type == fs.FileType.Directory:
            several = True
            found += _below(here, path)
        elif info.type != fs.FileType.NotFound:
            found.append(_Found(info, info.base_name, True))
        elif MAGIC & set(path):
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
    """All files below a folder, but none that is hidden or set apart by a name with . or _ in front."""
    infos = {info.path: info for info in system.get_file_info(fs.FileSelector(folder, recursive=True))}
    for path in sorted(infos):
        name = path[len(folder.rstrip("/")) + 1 :]
        if infos[path].is_file and not any(word.startswith((".", "_")) for word in name.split("/")):
            yield _Found(infos[path], name, False)


def _split(path: str) -> tuple[str, list[str]]:
    """A glob as the folder that is sure, and the pattern of each level below."""
    words = PurePosixPath(path).parts
    first = next(i for i, word in enumerate(words) if MAGIC & set(word))
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
