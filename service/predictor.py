"""ONNX file -> probabilities. Knows no HTTP and no JSON."""

import contextlib
import ctypes
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from patient.artefact import FILE, INPUT, OUTPUT, ArtefactError, Metadata, versions
from patient.encoding import Floats
from patient.record import EXAMPLE, FIELDS
from service.settings import Provider

CHUNK = 4096  # rows a run: one run of 100,000 is half as fast, its intermediate arrays leave the cache

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
CUDA_OPTIONS = {"arena_extend_strategy": "kSameAsRequested"}


class ProviderError(Exception):
    """The execution provider that was asked for is not to be had. The message is one line."""


@dataclass(frozen=True)
class Predictor:
    """A loaded model that has answered once.

    provider: the execution provider that runs it; fallback: why that is not the GPU although `auto` would take one
    """

    session: ort.InferenceSession
    metadata: Metadata
    provider: str
    fallback: str | None = None

    @property
    def version(self) -> str:
        """The version that every answer names."""
        return self.metadata.version

    def __call__(self, rows: Floats) -> Floats:
        """float32[N,13], NaN = missing, to float32[N] of probabilities. Thread-safe; releases the GIL."""
        chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
        return np.concatenate([self.session.run([OUTPUT], {INPUT: chunk})[0] for chunk in chunks])[:, 0]


def load(models: Path, provider: Provider) -> Predictor:
    """Load the highest version in the folder, and let it answer once.

    Raises ArtefactError for a file that is missing, unreadable, foreign, or made for other fields, and ProviderError
    where `cuda` was asked for and would not be what runs.
    """
    known = versions(models)
    if not known:
        raise ArtefactError(f"{models}: no model here, expected <version>/{FILE}; `python -m trainer fit` makes one")
    file = models / str(known[-1]) / FILE
    try:
        session, fallback = _open(file.read_bytes(), provider)
        metadata = Metadata.from_strings(session.get_modelmeta().custom_metadata_map)
        metadata.check()
        if metadata.version != file.parent.name:
            raise ArtefactError(f"it says that it is version {metadata.version}, its folder {file.parent.name}")
        _check_tensors(session)
        predictor = Predictor(session, metadata, session.get_providers()[0], fallback)
        _warm_up(predictor)
    except OSError as error:
        raise ArtefactError(f"{file}: {error.strerror}") from None
    except ArtefactError as error:
        raise ArtefactError(f"{file}: {error}") from None
    return predictor


def _open(content: bytes, provider: Provider) -> tuple[ort.InferenceSession, str | None]:
    ort.set_default_logger_severity(4)  # its own complaint about a missing GPU is ten lines; ours is one
    if provider == "cpu":
        return _session(content, [CPU]), None
    try:
        return _cuda_session(content), None
    except ProviderError as error:
        if provider == "cuda":
            raise ProviderError(f"provider=cuda: {error}") from None
        return _session(content, [CPU]), str(error)


def _cuda_session(content: bytes) -> ort.InferenceSession:
    """A session of which every node runs on the GPU, or ProviderError: ONNX Runtime would fall back in silence."""
    if CUDA not in ort.get_available_providers():
        raise ProviderError("this build of ONNX Runtime has no CUDA execution provider")
    if not has_driver():
        raise ProviderError("there is no NVIDIA driver here (libcuda.so.1)")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it cannot find
        ort.preload_dlls(directory="")  # from the nvidia-* packages, which are on no library path
    try:
        session = _session(content, [(CUDA, CUDA_OPTIONS)])
    except ArtefactError:
        _session(content, [CPU])  # a bad file is a bad file on either provider
        raise ProviderError("ONNX Runtime found no usable CUDA device or libraries") from None
    if session.get_providers()[0] != CUDA:
        raise ProviderError("ONNX Runtime found no usable CUDA device or libraries")
    return session


def has_driver() -> bool:
    """Whether a CUDA driver is installed. Asked first: ONNX Runtime's own attempt is slow and loud."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _session(content: bytes, providers: list[str | tuple[str, dict[str, str]]]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the graph is too small to share out
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if CPU not in providers:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(content, options, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's own exceptions share no other base
        raise ArtefactError(f"ONNX Runtime cannot load it: {str(error).splitlines()[0]}") from None
    session.disable_fallback()
    return session


def _check_tensors(session: ort.InferenceSession) -> None:
    """Refuse a file with the right metadata around another graph."""
    found = [(t.name, t.type, len(t.shape), t.shape[-1]) for t in (*session.get_inputs(), *session.get_outputs())]
    wanted = [(INPUT, "tensor(float)", 2, len(FIELDS)), (OUTPUT, "tensor(float)", 2, 1)]
    if found != wanted:
        raise ArtefactError(f"its inputs and outputs are {found}, expected {wanted}")


def _warm_up(predictor: Predictor) -> None:
    """The first run allocates; and a model that has no number for the worked example must not serve."""
    example = np.array([[EXAMPLE[name] for name in FIELDS], [np.nan] * len(FIELDS)], np.float32)
    answers = predictor(example)
    if not ((answers >= 0) & (answers <= 1)).all():
        raise ArtefactError("its answer to the worked example is not a probability")
