"""Find and read model files: bounded in size, and only graphs of ONNX's own operators without external data.

External data can name any path to be read, and an operator of another domain can run a library's code. Both are found
by parsing the file's Protocol Buffers, and rejected before ONNX Runtime reads it.
"""

from collections.abc import Iterator
from pathlib import Path

from patient.artefact import ArtefactError, read_start
from service.settings import Settings

BUNDLED = Path(__file__).parents[1] / "bundled_models"  # the version that a wheel contains
MAX_FILE_BYTES = 2**26  # version 3 has 16 kB
MAX_KEY = 2**32 - 1  # of a field: its number and wire type
MAX_DEPTH = 32  # of nested messages
DOMAINS = (b"", b"ai.onnx", b"ai.onnx.ml")

# onnx.proto: for each message, the fields that hold another message, that name a domain, and that are not allowed.
NESTED = {
    "model": {7: "graph", 8: "opset"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
DOMAIN_FIELDS = {("opset", 1), ("node", 7)}
FORBIDDEN = {
    ("model", 20): "it holds training steps",
    ("model", 25): "it defines its own functions",
    ("tensor", 13): "it keeps tensors in other files",
    ("tensor", 14): "it keeps tensors in other files",
}


def model_folder(models: Path) -> Path:
    """Return the folder to load from: `models`, or BUNDLED where `models` is the default and does not exist.

    A folder that was named explicitly is never replaced.
    """
    is_default = models == Settings.model_fields["models"].default
    return BUNDLED if is_default and not models.exists() and BUNDLED.is_dir() else models


def bundled_notice(models: Path, version: str) -> str:
    return f"no {models} here: using model version {version}, which is installed with the package"


def read(file: Path) -> bytes:
    """Read and check a model file. Raises OSError, and ArtefactError if it is too large or not only data."""
    content = read_start(file, MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ArtefactError(f"it is too large: the limit is {MAX_FILE_BYTES} bytes")
    check(content)
    return content


def check(content: bytes) -> None:
    """Raise ArtefactError for a graph that is not only data."""
    try:
        _check_message(memoryview(content), "model", 0)
    except (IndexError, ValueError):
        raise ArtefactError("ONNX Runtime cannot load it: it is not an ONNX file") from None


def _check_message(message: memoryview, kind: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ArtefactError(f"its graph is nested more than {MAX_DEPTH} deep")
    for number, value in _fields(message):
        field = kind, number
        if field in FORBIDDEN and bytes(value) not in (b"", b"\0"):  # some writers spell out the defaults
            raise ArtefactError(FORBIDDEN[field])
        if field in DOMAIN_FIELDS and bytes(value) not in DOMAINS:
            raise ArtefactError("it uses operators that are not ONNX's own")
        if inner := NESTED.get(kind, {}).get(number):
            _check_message(value, inner, depth + 1)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and bytes of each field. Raises IndexError and ValueError if it is cut off or not a message."""
    end = 0
    while end < len(message):
        key, start = _varint(message, end)
        if key > MAX_KEY:  # readers may take its last 32 bits, and so another field
            raise ValueError
        match key & 7:  # the wire type
            case 0:
                _, end = _varint(message, start)
            case 1:
                end = start + 8
            case 2:
                size, start = _varint(message, start)
                end = start + size
            case 5:
                end = start + 4
            case _:
                raise ValueError
        if end > len(message):
            raise ValueError
        yield key >> 3, message[start:end]


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a varint and the position after it."""
    number = shift = 0
    while True:
        byte = message[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
        shift += 7
        if shift > 63:
            raise ValueError
