"""Silence for libraries that write to the terminal below Python."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def stderr() -> Iterator[None]:
    """Drop what C++ code writes to file descriptor 2 meanwhile; an exception passes and is seen."""
    os.environ.setdefault(
        "TF_CPP_MIN_LOG_LEVEL", "3"
    )  # from here on; what comes before TensorFlow reads it, it ignores
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as sink:
        os.dup2(sink.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
