"""Who may ask: named API keys, of which a file holds the SHA-256, and which change while the service runs.

A line of the file is `name sha256 [scope]`; # begins a comment. A name may have several lines, so that an old key and
a new one are good at once. No slow hash is needed: `new` makes keys of 256 random bits, which nobody can guess, and a
hash that costs milliseconds would let anybody busy the service with wrong ones.
"""

import asyncio
import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Scope = Literal["all", "metrics"]
PREFIX = "heart_"  # which scanners for leaked secrets can look for
NAME = re.compile(r"[\w.@-]{1,64}", re.ASCII)
EVERY = 1.0  # seconds between two looks at the file
LARGEST = 2**20  # bytes of the file

log = logging.getLogger(__name__)


class ApiKeysError(Exception):
    """A file of keys that cannot be used. The message is one line and names it."""


@dataclass(frozen=True)
class Key:
    """What is known of a key. scope: `all`, or `metrics` for one that may read nothing but /metrics."""

    name: str
    digest: bytes
    scope: Scope


Good = tuple[list[Key], dict[bytes, Key]]


class ApiKeys:
    """The keys of a file. Raises KeysError if it holds none to begin with."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._seen, keys = _read(file)
        self._good: Good = keys, {}
        if not keys:
            raise ApiKeysError(f"{file}: no key in it; `python -m service key NAME` makes one")

    def find(self, key: bytes) -> Key | None:
        """The key, if it is good. Takes equally long whichever it is, and for all that are not.

        Good ones are remembered as they came. Python hashes bytes with a secret of this process, so that looking one up
        tells nobody how near a guess was.
        """
        keys, met = self._good  # one pair: keys that are gone take what is remembered of them along
        if key in met:
            return met[key]
        digest, found = hashlib.sha256(key).digest(), None
        for known in keys:
            if hmac.compare_digest(known.digest, digest):
                found = met[key] = known
        return found

    async def watch(self) -> None:
        """Take in what becomes of the file, until cancelled. One that cannot be read leaves the keys as they were."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(EVERY)
            await loop.run_in_executor(None, self.refresh)

    def refresh(self) -> None:
        """Read the file again if it is another than before; say once what is wrong with it."""
        seen = _stat(self.file)
        if seen == self._seen:
            return
        try:
            self._seen, keys = _read(self.file)
        except ApiKeysError as error:
            self._seen = seen
            log.error("the keys stay as they were: %s", error)
            return
        self._good = keys, {}
        log.warning("the keys have changed: good are now those of %s", ", ".join(key.name for key in keys) or "nobody")


def new(name: str, scope: str = "all") -> tuple[str, str]:
    """A new key, and the line for the file that makes it good. Raises KeysError for a name or scope that cannot be."""
    key = PREFIX + secrets.token_urlsafe(32)
    line = f"{name} {hashlib.sha256(key.encode()).hexdigest()}{'' if scope == 'all' else f' {scope}'}"
    if not NAME.fullmatch(name) or not _parse([line], "key"):
        raise ApiKeysError("a name is letters, digits and . _ @ -, at most 64")
    return key, line


def _stat(file: Path) -> tuple[int, ...] | None:
    """What changes when a file is written, replaced or linked to another; None without one."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(file: Path) -> tuple[tuple[int, ...] | None, list[Key]]:
    seen = _stat(file)  # first: what is written meanwhile is seen the next time
    try:
        if not file.is_file():
            raise ApiKeysError(f"{file}: no such file")
        with file.open("rb") as opened:
            content = opened.read(LARGEST + 1)
    except OSError as error:
        raise ApiKeysError(f"{file}: {os.strerror(error.errno or 0)}") from None
    if len(content) > LARGEST:
        raise ApiKeysError(f"{file}: larger than {LARGEST} bytes, no file of keys")
    return seen, _parse(content.decode("utf-8", "replace").splitlines(), str(file))


def _parse(lines: Iterable[str], where: str) -> list[Key]:
    """The keys of some lines. Raises KeysError, which does not repeat a line: somebody may have put a key there."""
    keys: list[Key] = []
    for number, line in enumerate(lines, 1):
        match line.partition("#")[0].split():
            case []:
                continue
            case [name, digest, *scope] if NAME.fullmatch(name) and re.fullmatch("[0-9a-f]{64}", digest):
                if len(scope) <= 1 and (scope or ["all"])[0] in get_args(Scope):
                    keys.append(Key(name, bytes.fromhex(digest), "metrics" if scope == ["metrics"] else "all"))
                    continue
        raise ApiKeysError(f"{where}, line {number}: expected `name sha256 [{'|'.join(get_args(Scope))}]`")
    if len({key.digest for key in keys}) < len(keys):
        raise ApiKeysError(f"{where}: the same key twice")
    return keys
