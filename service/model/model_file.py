"""A model file as bytes that are only data: bounded, and a graph of ONNX's own operators with all that it needs inside.

A tensor kept outside the file names any path that is to be read, and a domain of operators may stand for a library.
Both are refused before ONNX Runtime sees the file, by walking its Protocol Buffers.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from patient.artefact import ArtefactError

LARGEST = 2**26  # bytes; the network takes 10 kB
DEEPEST = 32  # messages in each other
DOMAINS = (b"", b"ai.onnx", b"ai.onnx.ml")
NOT_ONNX = "ONNX Runtime cannot load it: it is no ONNX file"

# onnx.proto: by message, the fields that lead into another one, those that name a domain, and those that may not be.
INTO = {
    "model": {7: "graph", 8: "opset"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
DOMAIN = {("opset", 1), ("node", 7)}
REFUSED = {
    ("model", 20): "it holds training steps",
    ("model", 25): "it brings functions of its own",
    ("tensor", 13): "it keeps tensors in other files",
    ("tensor", 14): "it keeps tensors in other files",
}


def read(file: Path) -> bytes:
    """A model file's content. Raises OSError, and ArtefactError for what is too large or anything but data."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for a writer
    with open(descriptor, "rb") as opened:  # noqa: PTH123  # of a descriptor
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ArtefactError("it is no regular file")
        if found.st_size > LARGEST:
            raise ArtefactError(f"it has {found.st_size} bytes, at most {LARGEST} are read")
        content = opened.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ArtefactError(f"it has more than {LARGEST} bytes")
    check(content)
    return content


def digest(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def check(content: bytes) -> None:
    """Raise ArtefactError for a graph that is more than data."""
    try:
        _walk(memoryview(content), "model", 0)
    except (IndexError, ValueError):
        raise ArtefactError(NOT_ONNX) from None


def _walk(message: memoryview, kind: str, depth: int) -> None:
    if depth > DEEPEST:
        raise ArtefactError(f"its graph is nested more than {DEEPEST} deep")
    for field, value in _fields(message):
        place = kind, field
        if place in REFUSED and value not in (0, b""):  # the defaults, as some writers spell them out
            raise ArtefactError(REFUSED[place])
        if place in DOMAIN and bytes(_bytes(value)) not in DOMAINS:
            raise ArtefactError("it uses operators that are not ONNX's own")
        if inner := INTO.get(kind, {}).get(field):
            _walk(_bytes(value), inner, depth + 1)


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field. Raises IndexError and ValueError where it is cut off or no Protocol Buffer."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _number(message, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _number(message, at)
        else:
            size = {1: 8, 5: 4}.get(kind, -1)
        if not 0 <= size <= len(message) - at:
            raise ValueError
        yield key >> 3, message[at : at + size]
        at += size


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """A varint, and where it ends."""
    number = shift = 0
    while True:
        byte = message[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
        if shift > 63:
            raise ValueError
