"""Load a model file, and check that it predicts as it did at its export, on the CPU and on the GPU."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort

from patient.artefact import FILE, INPUT, OUTPUT, ArtefactError, Checks, Metadata, pinned, versions
from patient.record import FIELDS
from service.model import model_file
from service.model.device import GpuOptions, ProviderError, reason
from service.model.execution import DEVICE_ROWS, EXAMPLES, DirectRun, Run, measure_crossover, on_device
from service.model.predictor import Predictor
from service.model.session import CPU, CUDA, create_cpu_session, create_gpu_session
from service.settings import Provider

GPU = GpuOptions()
TOLERANCE = 1e-5  # by which probabilities may differ between GPU and CPU, and from those at the export


def load(models: Path, provider: Provider, gpu: GpuOptions = GPU) -> Predictor:
    """Load the pinned version, or else the highest. Raises ArtefactError and ProviderError; see load_file."""
    return load_file(models / str(candidates(models, pinned(models))[0]) / FILE, provider, gpu)


def candidates(models: Path, pin: int | None) -> list[int]:
    """Return the versions to try: the pinned one alone, or all, highest first. Raises ArtefactError if none."""
    found = versions(models)[::-1] if pin is None else [pin]
    if not found:
        raise ArtefactError(f"{models}: no model here, expected <version>/{FILE}; `python -m trainer fit` makes one")
    return found


def load_file(
    file: Path, provider: Provider, gpu: GpuOptions, check: Callable[[bytes], object] | None = None
) -> Predictor:
    """Load one version and compare its output with its checks. Not to be called by two threads at once.

    check: raises ArtefactError for content that must not be loaded, as service.model.trial does

    Raises ArtefactError for a file that is missing, unreadable, not this project's, made for other fields, or whose
    output differs from that at its export. Raises ProviderError if provider=cuda and the GPU cannot run the model.
    """
    try:
        content = model_file.read(file)
        if check:
            check(content)
        metadata, cpu = inspect(content)
        if metadata.version != file.parent.name:
            raise ArtefactError(f"its metadata name version {metadata.version}, its folder {file.parent.name}")
    except OSError as error:
        raise ArtefactError(f"{file}: {error.strerror}") from None
    except ArtefactError as error:
        raise ArtefactError(f"{file}: {error}") from None
    model = _choose_provider(metadata, content, cpu, provider, gpu)
    model.file, model.digest = file, hashlib.sha256(content).hexdigest()
    return model


def inspect(content: bytes) -> tuple[Metadata, DirectRun]:
    """Load a model file's content on the CPU and compare its output with its checks. Raises ArtefactError."""
    session = create_cpu_session(content)
    metadata = Metadata.from_strings(session.get_modelmeta().custom_metadata_map)
    metadata.check()
    _check_tensors(session)
    cpu = DirectRun(session)
    try:
        _check_output(cpu, metadata.checks)
    except ArtefactError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no other common base
        raise ArtefactError(f"ONNX Runtime cannot run it: {reason(error)}") from None
    return metadata, cpu


def _choose_provider(
    metadata: Metadata, content: bytes, cpu: Run, provider: Provider, options: GpuOptions
) -> Predictor:
    if provider == "cpu":
        return Predictor(metadata, CPU, cpu)
    try:
        gpu = _load_on_gpu(content, options, cpu)
    except ProviderError as error:
        if provider == "cuda":
            raise ProviderError(f"provider=cuda: {error}") from None
        return Predictor(metadata, CPU, cpu, fallback=str(error))
    if provider == "cuda":
        return Predictor(metadata, CUDA, None, gpu, crossover=0)
    rows = options.crossover if options.crossover is not None else measure_crossover(cpu, gpu)
    if rows is None:
        return Predictor(metadata, CPU, cpu, fallback="the CPU was faster than this GPU at every size tried")
    return Predictor(metadata, CUDA, cpu, gpu, crossover=rows)


def _load_on_gpu(content: bytes, options: GpuOptions, cpu: Run) -> Run:
    """Load the model on the GPU, run it twice at every size, and compare it with the CPU. Raises ProviderError."""
    session = create_gpu_session(content, options)
    expected = cpu(EXAMPLES)
    try:
        gpu = on_device(session, options.mode)
        for size in DEVICE_ROWS:
            rows = np.resize(EXAMPLES, (size, len(FIELDS)))
            for _ in range(2):  # the second run allocates by the memory pattern that the first records
                difference = float(np.abs(gpu(rows) - np.resize(expected, size)).max())
                if not difference <= TOLERANCE:  # also true for NaN
                    raise ArithmeticError(f"its probabilities differ from the CPU's by {difference:.1e} at {size} rows")
    except Exception as error:
        raise ProviderError(f"the GPU failed its first runs: {reason(error)}") from None
    return gpu


def _check_tensors(session: ort.InferenceSession) -> None:
    """Raise ArtefactError for a graph with other inputs or outputs, whatever its metadata say."""
    found = [(t.name, t.type, len(t.shape), t.shape[-1]) for t in (*session.get_inputs(), *session.get_outputs())]
    expected = [(INPUT, "tensor(float)", 2, len(FIELDS)), (OUTPUT, "tensor(float)", 2, 1)]
    if found != expected:
        raise ArtefactError(f"its inputs and outputs are {found}, expected {expected}")


def _check_output(cpu: Run, checks: Checks) -> None:
    """Raise ArtefactError if the output is not a probability, or differs from that at the export."""
    probabilities = cpu(EXAMPLES)
    if len(probabilities) != len(EXAMPLES):
        raise ArtefactError(f"for {len(EXAMPLES)} rows its output has {len(probabilities)}")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ArtefactError("its output for the example record is not a probability")
    if not checks.rows and not checks.probabilities:
        return  # the oldest versions have no checks
    if len(checks.rows) != len(checks.probabilities) or {len(row) for row in checks.rows} != {len(FIELDS)}:
        raise ArtefactError("its checks are not rows of these fields with one probability each")
    difference = float(np.abs(cpu(np.array(checks.rows, np.float32)) - checks.probabilities).max())
    if not difference <= TOLERANCE:  # also true for NaN
        raise ArtefactError(f"its probabilities differ by {difference:.1e} from those at its export")
