"""Named API keys, read from a file of their SHA-256 digests and re-read when the file changes.

A line of the file is `name sha256 [scope]`; # begins a comment. A name may have several lines, so that an old key and
a new one are valid at the same time. No slow hash is needed: `new_key` makes keys of 256 random bits, which nobody can
guess, and a hash that takes milliseconds would let anybody load the service with wrong keys.
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
PREFIX = "heart_"  # scanners for leaked secrets can search for it
NAME = re.compile(r"[\w.@-]{1,64}", re.ASCII)
POLL_SECONDS = 1.0  # between two checks of the file
MAX_FILE_BYTES = 2**20

log = logging.getLogger(__name__)


class ApiKeysError(Exception):
    """A key file that cannot be used. The message is one line that names the file."""


@dataclass(frozen=True)
class Key:
    """A valid key. scope: `all`, or `metrics` for a key that may only read /metrics."""

    name: str
    digest: bytes
    scope: Scope


class ApiKeys:
    """The keys of a file. Raises ApiKeysError if it is invalid or has no key at start-up."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._stat, self._keys = _read(file)
        if not self._keys:
            raise ApiKeysError(f"{file}: contains no API key; `python -m service key NAME` makes one")

    def find(self, key: bytes) -> Key | None:
        """Return the key if it is valid, in the same time whether it is, and whatever it looks like.

        It is looked up by its digest, which nobody can choose, in a dictionary that hashes with a secret.
        """
        return self.find_digest(hashlib.sha256(key).digest())

    def find_digest(self, digest: bytes) -> Key | None:
        """The same for the SHA-256 of a key."""
        found = self._keys.get(digest)
        return found if found and hmac.compare_digest(found.digest, digest) else None

    async def watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await loop.run_in_executor(None, self.refresh)

    def refresh(self) -> None:
        """Read the file again if it has changed. An invalid file is logged once, and the keys stay the same."""
        stat = _stat(self.file)
        if stat == self._stat:
            return
        try:
            self._stat, keys = _read(self.file)
        except ApiKeysError as error:
            self._stat = stat
            log.error("the API keys were not reloaded: %s", error)
            return
        self._keys = keys
        log.warning(
            "the API keys have changed; valid names: %s", ", ".join(key.name for key in keys.values()) or "none"
        )


def new_key(name: str, scope: str = "all") -> tuple[str, str]:
    """Create a key; return it and its line for the file. Raises ApiKeysError for an invalid name or scope."""
    key = PREFIX + secrets.token_urlsafe(32)
    line = f"{name} {hashlib.sha256(key.encode()).hexdigest()}{'' if scope == 'all' else f' {scope}'}"
    if not NAME.fullmatch(name) or not _parse([line], "key"):
        raise ApiKeysError("a name has 1 to 64 letters, digits and . _ @ -")
    return key, line


def _stat(file: Path) -> tuple[int, ...] | None:
    """Return values that change when the file is written or replaced, or its link moved; None without a file."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _read(file: Path) -> tuple[tuple[int, ...] | None, dict[bytes, Key]]:
    """Return the file's stamp, and its keys by digest. Raises ApiKeysError."""
    stat = _stat(file)  # before reading: a write during the read is then noticed at the next poll
    try:
        if not file.is_file():  # to open a pipe would wait for a writer
            raise ApiKeysError(f"{file}: no such file")
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ApiKeysError(f"{file}: {os.strerror(error.errno or 0)}") from None
    if len(content) > MAX_FILE_BYTES:
        raise ApiKeysError(f"{file}: not a key file, it is larger than {MAX_FILE_BYTES} bytes")
    if not content:  # it is being written, or was truncated by accident
        raise ApiKeysError(f"{file}: the file is empty; to revoke all keys, leave a comment in it")
    keys = _parse(content.decode("utf-8-sig", "replace").splitlines(), str(file))
    return stat, {key.digest: key for key in keys}


def _parse(lines: Iterable[str], where: str) -> list[Key]:
    """Parse the lines of a key file. ApiKeysError repeats no line: it may contain a key by mistake."""
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
        raise ApiKeysError(f"{where}: the same key is listed twice")
    return keys
