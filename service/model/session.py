"""ONNX Runtime sessions: on the CPU, or with every node on the GPU, and nothing in between."""

import contextlib
import ctypes
import io
from collections.abc import Iterable

import onnxruntime as ort

from patient.artefact import ArtefactError
from service.model.device import GpuOptions, ProviderError, reason

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
MIB = 2**20


def on_cpu(content: bytes) -> ort.InferenceSession:
    """A session on the CPU, one thread. Raises ArtefactError for what is not a model."""
    try:
        return _session(content, _options(), CPU, {})
    except Exception as error:  # ONNX Runtime's own exceptions share no other base
        raise ArtefactError(f"ONNX Runtime cannot load it: {reason(error)}") from None


def on_gpu(content: bytes, gpu: GpuOptions) -> ort.InferenceSession:
    """A session of which every node runs on the GPU, or ProviderError: ONNX Runtime would fall back in silence.

    `content` is a model that the CPU has loaded, so that whatever fails here fails for the GPU's sake.
    """
    if CUDA not in ort.get_available_providers():
        raise ProviderError("this build of ONNX Runtime has no CUDA execution provider")
    if not has_driver():
        raise ProviderError("there is no NVIDIA driver here (libcuda.so.1)")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it cannot find
        ort.preload_dlls(directory="")  # from the nvidia-* packages, which are on no library path
    options = _options()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        session = _session(content, options, CUDA, cuda_options(gpu))
    except Exception as error:
        raise ProviderError(f"ONNX Runtime found no usable CUDA device or libraries: {reason(error)}") from None
    if session.get_providers()[0] != CUDA:
        raise ProviderError("ONNX Runtime found no usable CUDA device or libraries")
    elsewhere = misplaced(placement(session))
    if elsewhere:
        raise ProviderError(f"not every node of the model would run on the GPU: {', '.join(elsewhere)}")
    return session


def cuda_options(gpu: GpuOptions) -> dict[str, str]:
    """The CUDA provider's options. TensorFloat-32 is off: its 10 bits of mantissa are not within 1e-5 of the CPU."""
    return {
        "gpu_mem_limit": str(gpu.memory * MIB),
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
    }


def placement(session: ort.InferenceSession) -> list[tuple[str, str]]:
    """(execution provider, operator) of each node of a session that was told to record it."""
    assigned = session.get_provider_graph_assignment_info()
    return [(subgraph.ep_name, node.op_type) for subgraph in assigned for node in subgraph.get_nodes()]


def misplaced(nodes: Iterable[tuple[str, str]]) -> list[str]:
    """What keeps a graph from being the GPU's alone: nodes elsewhere, copies between the two, or no node at all."""
    nodes = list(nodes)
    if not nodes:
        return ["no node is placed"]
    wrong = (f"{operator} on {provider}" for provider, operator in nodes if provider != CUDA or "Memcpy" in operator)
    return sorted(set(wrong))


def has_driver() -> bool:
    """Whether a CUDA driver is installed. Asked first: ONNX Runtime's own attempt is slow and loud."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _options() -> ort.SessionOptions:
    ort.set_default_logger_severity(4)  # its own complaint about a missing GPU is ten lines; ours is one
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the graph is too small to share out
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _session(
    content: bytes, options: ort.SessionOptions, provider: str, provider_options: dict[str, str]
) -> ort.InferenceSession:
    session = ort.InferenceSession(content, options, providers=[(provider, provider_options)], enable_fallback=0)
    session.disable_fallback()  # of run(), which has one of its own
    return session
