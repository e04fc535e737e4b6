"""Find the input tables and plan their outputs: files, folders and globs, on disks or in object stores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Protocol

import click

from service.cli.score.job import KINDS, Kind, Outcome, Part, Tick
from service.cli.score.storage import PIPE, Entry, Storage, has_raw_bytes, is_same_file, locate
from service.tables.formats import COMPRESSIONS

WILDCARDS = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts, the storage of inputs and outputs, and the folder of the parts, if there is one.

    skipped: files of a folder that are no parts, each with the reason
    """

    parts: list[Part]
    source: Storage
    target: Storage
    folder: str | None
    skipped: list[str]


class Executor(Protocol):
    """Scores parts by one or more engines. identity: that of the engines."""

    identity: str

    def attempts(self, plan: Plan, folder: str, tick: Tick, /) -> Iterator[Outcome]:
        """Yield the outcome of each part as it finishes, in any order; the outputs are hidden files in `folder`."""


@dataclass(frozen=True, slots=True)
class _Input:
    """An input file and its name relative to its folder or glob."""

    entry: Entry
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
    here = None if out == PIPE else target.find(out)
    parts |= several or output.endswith("/") or (here is not None and here.kind == "folder")
    if parts and PIPE in (*inputs, output):
        raise click.UsageError("stdin and stdout take one table: no folder, no cluster")
    if here and (here.kind == "other" or (parts and here.kind == "file")):
        wanted = "several inputs require a folder" if parts else "neither a file nor a folder"
        raise click.UsageError(f"{output}: {wanted}")
    out_kind = target_kind or Kind.of(out)
    if not (out_kind or parts or out == PIPE):
        kinds, compressions = ", ".join(KINDS), " or ".join(COMPRESSIONS)
        raise click.UsageError(f"{output}: unknown format; end OUT in {kinds}, also with {compressions}, or give --to")
    own = f"{out}/" if parts and source == target else None  # outputs of earlier runs are not inputs
    found = [file for file in found if not own or not file.entry.path.startswith(own)]
    tables, skipped = _tables(found, source_kind)
    if not tables:
        raise click.UsageError(f"{', '.join(inputs)}: no table found")
    planned = [_part(file, kind, out, out_kind or kind, parts) for file, kind in tables]
    targets: dict[str, str] = {}
    for part in planned:
        if is_same_file(source, part.path, target, part.target):
            raise click.UsageError(f"{part.name}: the output would replace its input")
        if not target.is_local and has_raw_bytes(part.name):
            raise click.UsageError(f"{part.name}: object stores take UTF-8 names only")
        if part.target in targets:
            raise click.UsageError(f"{part.path} and {targets[part.target]} would both be written to {part.name}")
        targets[part.target] = part.path
    return Plan(planned, source, target, out if parts else None, skipped)


def _tables(found: list[_Input], source_kind: Kind | None) -> tuple[list[tuple[_Input, Kind]], list[str]]:
    """Return the tables among the inputs with their kinds, and what is skipped. A file is read once, links or not."""
    tables: list[tuple[_Input, Kind]] = []
    skipped = []
    own_names = {file.entry.identity: file.name for file in found if not file.entry.is_link}
    for file in found:
        name = own_names.setdefault(file.entry.identity, file.name)
        if file.entry.is_link and name != file.name:
            skipped.append(f"{file.name}: skipped, a link to the same file as {name}")
        elif kind := source_kind or Kind.of(file.entry.path):
            tables.append((file, kind))
        elif file.is_explicit:
            raise click.UsageError(f"{file.name}: unknown format, give --format")
        else:
            skipped.append(f"{file.name}: skipped, not a table by its name")
    return tables, skipped


def _part(file: _Input, source_kind: Kind, out: str, target_kind: Kind, parts: bool) -> Part:
    name, target = file.name, out
    if parts:
        own = Kind.of(name)
        name = f"{name[: -len(own.name) - 1] if own else name}.{target_kind.name}"
        target = f"{out}/{name}"
    return Part(name, file.entry.path, file.entry.size, file.entry.changed, source_kind, target, target_kind)


def _find_inputs(inputs: Sequence[str]) -> tuple[Storage, list[_Input], bool]:
    """Return the storage and the files, in order, and whether there may be several."""
    storage: Storage | None = None
    found: list[_Input] = []
    several = len(inputs) > 1
    for text in inputs:
        here, path = locate(text)
        if storage and storage != here:
            raise click.UsageError("all inputs must be on one file system")
        storage = here
        entry = Entry(PIPE, "other") if path == PIPE else here.find(path)
        if entry and entry.kind == "folder":
            several = True
            start = len(path.rstrip("/")) + 1
            below = here.tree(path, (".", "_"))
            found += [_Input(each, each.path[start:], False) for each in below if each.kind == "file"]
        elif entry:
            found.append(_Input(entry, "stdin" if path == PIPE else entry.name, True))
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
    assert storage
    return storage, found, several


def _glob(storage: Storage, folder: str, pattern: Sequence[str]) -> Iterator[Entry]:
    head, *rest = pattern
    if head == "**":
        below = storage.tree(folder, (".",))
        for each in (folder, *(entry.path for entry in below if entry.kind == "folder")):
            yield from _glob(storage, each, rest or ["*"])
        return
    for entry in storage.children(folder):
        hidden = entry.name.startswith(".") and not head.startswith(".")
        if hidden or not fnmatchcase(entry.name, head):
            continue
        if not rest and entry.kind == "file":
            yield entry
        elif rest and entry.kind == "folder":
            yield from _glob(storage, entry.path, rest)
