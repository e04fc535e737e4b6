"""Files that are never half-written."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A hidden path in the same folder, to be written meanwhile; it takes the name `path` in the end, or is removed.

    A process that is killed leaves the hidden file, and whatever `path` held before.
    """
    hidden = path.with_name(f".writing-{secrets.token_hex(4)}-{path.name}")
    try:
        yield hidden
        with hidden.open("rb+") as file:
            os.fsync(file.fileno())
        hidden.replace(path)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise
