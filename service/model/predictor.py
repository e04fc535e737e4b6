"""ONNX file -> probabilities. Knows no HTTP and no JSON."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from patient.artefact import FILE, INPUT, OUTPUT, ArtefactError, Checks, Metadata, pinned, versions
from patient.encoding import Floats, from_bytes
from patient.record import EXAMPLE, FIELDS
from service.model import model_file
from service.model.crossover import crossover
from service.model.device import DeviceLost, GpuOptions, ProviderError, reason
from service.model.execution import DEVICE_ROWS, MAX_HOST_ROWS, DirectRun, HostBuffers, Run, on_device
from service.model.session import CPU, CUDA, on_cpu, on_gpu
from service.settings import Provider

GPU = GpuOptions()
TOLERANCE = 1e-5  # by which answers may differ: the GPU's from the CPU's, and these from those at the export

log = logging.getLogger(__name__)


@dataclass
class Predictor:
    """A loaded model that has answered once. Only the loss of its GPU ever changes it.

    provider: the execution provider that runs it; fallback: why that is not the GPU although `auto` would take one;
    crossover: rows from which on a run goes to the GPU, None without one; failure: what became of the GPU, once it is
    lost and nothing may stand in for it; digest: SHA-256 of the file. Without `gpu` the CPU runs all; without `cpu` the
    GPU does. A lost GPU's session is kept: to take it down in its broken context can take the process along.
    """

    metadata: Metadata
    provider: str
    cpu: Run | None
    gpu: Run | None = None
    fallback: str | None = None
    crossover: int | None = None
    failure: str | None = None
    digest: str = ""

    def __post_init__(self) -> None:
        self._host_buffers = HostBuffers(self.cpu.session) if isinstance(self.cpu, DirectRun) else None

    @property
    def version(self) -> str:
        """The version that every answer names."""
        return self.metadata.version

    @property
    def lost(self) -> bool:
        """Whether its GPU is, for good."""
        return self.gpu is not None and (self.crossover is None or self.failure is not None)

    def __call__(self, rows: Floats) -> Floats:
        """float32[N,13], NaN = missing, to float32[N] of probabilities. Thread-safe; releases the GIL.

        Raises DeviceLost from the moment on at which the GPU was lost, if only the GPU may answer.
        """
        crossover = self.crossover  # read once: another thread may find the GPU lost
        if self.cpu is not None and (crossover is None or len(rows) < crossover):
            return self.cpu(rows)
        return self._on_gpu(rows)

    def predict_bytes(self, rows: Sequence[bytes]) -> list[float]:
        """The same for some rows as patient.encoding.as_bytes makes them; for one thread, the event loop's."""
        crossover = self.crossover
        if (
            self._host_buffers is not None
            and len(rows) <= MAX_HOST_ROWS
            and (crossover is None or len(rows) < crossover)
        ):
            return self._host_buffers(rows)
        answers: list[float] = self(from_bytes(rows)).tolist()
        return answers

    def probe(self) -> None:
        """Notice the loss of a GPU that nobody uses at the moment. Raises DeviceLost if only the GPU may answer."""
        if self.crossover is not None:
            self._on_gpu(EXAMPLES[:1])

    def _on_gpu(self, rows: Floats) -> Floats:
        assert self.gpu is not None
        if self.failure is not None:
            raise DeviceLost(self.failure)
        try:
            return self.gpu(rows)
        except Exception as error:
            if self._answers():
                raise  # no room for this run, or a fault in these rows: the next may do
            self._lose(reason(error))
        assert self.cpu is not None
        return self.cpu(rows)

    def _answers(self) -> bool:
        """Whether the GPU still does: a CUDA context that has failed fails every call until the process ends.

        Asked, and not read from the error: ONNX Runtime has no type for it, and many words.
        """
        assert self.gpu is not None
        try:
            self.gpu(EXAMPLES[:1])
        except Exception:
            return False
        return True

    def _lose(self, what: str) -> None:
        """Let the CPU answer from now on; raise DeviceLost where it must not. The first thread to notice says so."""
        if self.cpu is None:
            if self.failure is None:
                self.failure = f"The GPU was lost ({what}); the service must be restarted."
                log.error("%s", self.failure)
            raise DeviceLost(self.failure)
        if self.crossover is not None:
            self.provider, self.crossover = CPU, None
            self.fallback = f"the GPU was lost while it served: {what}"
            log.warning("provider=auto falls back to the CPU: %s", self.fallback)


EXAMPLES = np.array([[EXAMPLE[name] for name in FIELDS], [np.nan] * len(FIELDS)], np.float32)


def load(models: Path, provider: Provider, gpu: GpuOptions = GPU, version: int | None = None) -> Predictor:
    """Load this version of those in the folder, or else the one that is pinned there, or else the highest.

    Raises as `load_file`, and ArtefactError where there is none.
    """
    return load_file(models / str(candidates(models, version or pinned(models))[0]) / FILE, provider, gpu)


def candidates(models: Path, pin: int | None) -> list[int]:
    """The versions that may serve, the first before the second: the pinned one alone, or all. Raises ArtefactError."""
    found = versions(models)[::-1] if pin is None else [pin]
    if not found:
        raise ArtefactError(f"{models}: no model here, expected <version>/{FILE}; `python -m trainer fit` makes one")
    return found


def load_file(file: Path, provider: Provider, gpu: GpuOptions = GPU) -> Predictor:
    """Load one version, and let it answer its own checks, on a GPU once in every size. Never two at the same time.

    Raises ArtefactError for a file that is missing, unreadable, foreign, made for other fields, or answers otherwise
    than when it was exported, and ProviderError where `cuda` was asked for and would not be what runs.
    """
    try:
        content = model_file.read(file)
        session = on_cpu(content)
        metadata = Metadata.from_strings(session.get_modelmeta().custom_metadata_map)
        metadata.check()
        if metadata.version != file.parent.name:
            raise ArtefactError(f"it says that it is version {metadata.version}, its folder {file.parent.name}")
        _check_tensors(session)
        cpu = DirectRun(session)
        _check_answers(cpu, metadata.checks)
    except OSError as error:
        raise ArtefactError(f"{file}: {error.strerror}") from None
    except ArtefactError as error:
        raise ArtefactError(f"{file}: {error}") from None
    model = _place(metadata, content, cpu, provider, gpu)
    model.digest = model_file.digest(content)
    return model


def _place(metadata: Metadata, content: bytes, cpu: Run, provider: Provider, options: GpuOptions) -> Predictor:
    """The model on what was asked for. It has answered on the CPU, which says what the GPU must answer."""
    if provider == "cpu":
        return Predictor(metadata, CPU, cpu)
    try:
        gpu = _warm(content, options, cpu)
    except ProviderError as error:
        if provider == "cuda":
            raise ProviderError(f"provider=cuda: {error}") from None
        return Predictor(metadata, CPU, cpu, fallback=str(error))
    if provider == "cuda":
        return Predictor(metadata, CUDA, None, gpu, crossover=0)
    rows = options.crossover if options.crossover is not None else crossover(cpu, gpu)
    if rows is None:
        return Predictor(metadata, CPU, cpu, fallback="the CPU was faster than this GPU at every size tried")
    return Predictor(metadata, CUDA, cpu, gpu, crossover=rows)


def _warm(content: bytes, options: GpuOptions, cpu: Run) -> Run:
    """Put the model on the GPU, run it twice in every size, and compare it with the CPU. Raises ProviderError."""
    session = on_gpu(content, options)
    expected = cpu(EXAMPLES)
    try:
        gpu = on_device(session, options.mode)
        for size in DEVICE_ROWS:
            rows = np.resize(EXAMPLES, (size, len(FIELDS)))
            for _ in range(2):  # ONNX Runtime allocates by the first run's pattern in the second
                difference = float(np.abs(gpu(rows) - np.resize(expected, size)).max())
                if not difference <= TOLERANCE:  # NaN is not
                    raise ProviderError(f"the GPU's answers differ from the CPU's by {difference:.1e} at {size} rows")
    except ProviderError:
        raise
    except Exception as error:
        raise ProviderError(f"the GPU failed its first runs: {reason(error)}") from None
    return gpu


def _check_tensors(session: ort.InferenceSession) -> None:
    """Refuse a file with the right metadata around another graph."""
    found = [(t.name, t.type, len(t.shape), t.shape[-1]) for t in (*session.get_inputs(), *session.get_outputs())]
    wanted = [(INPUT, "tensor(float)", 2, len(FIELDS)), (OUTPUT, "tensor(float)", 2, 1)]
    if found != wanted:
        raise ArtefactError(f"its inputs and outputs are {found}, expected {wanted}")


def _check_answers(cpu: Run, checks: Checks) -> None:
    """A model that has no number for the worked example, or others than at its export, must not serve."""
    answers = cpu(EXAMPLES)
    if not ((answers >= 0) & (answers <= 1)).all():
        raise ArtefactError("its answer to the worked example is not a probability")
    if not checks.rows and not checks.probabilities:
        return  # an older version brings none
    if len(checks.rows) != len(checks.probabilities) or {len(row) for row in checks.rows} != {len(FIELDS)}:
        raise ArtefactError("its checks are not rows of these fields with an answer each")
    answers = cpu(np.array(checks.rows, np.float32))
    difference = float(np.abs(answers - checks.probabilities).max())
    if not difference <= TOLERANCE:  # NaN is not
        raise ArtefactError(f"its answers differ by {difference:.1e} from those that it gave when it was exported")
