"""Create ONNX Runtime sessions: on the CPU, or with every node on the GPU."""

import contextlib
import ctypes
import io
from collections.abc import Mapping

import onnxruntime as ort

from patient.artefact import ArtefactError
from service.model.device import GpuOptions, ProviderError, reason

is_runtime_used = False  # in this process, which then may have threads that a fork would lack
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
MIB = 2**20


def create_cpu_session(content: bytes) -> ort.InferenceSession:
    """Create a session on one CPU thread. Raises ArtefactError if `content` is not a model."""
    try:
        return _session(content, CPU)
    except Exception as error:  # ONNX Runtime's exceptions have no other common base
        raise ArtefactError(f"ONNX Runtime cannot load it: {reason(error)}") from None


def create_gpu_session(content: bytes, gpu: GpuOptions) -> ort.InferenceSession:
    """Create a session with every node on the GPU. Raises ProviderError where ONNX Runtime would fall back silently.

    `content` must have loaded on the CPU, so that a failure here is the GPU's.
    """
    if CUDA not in ort.get_available_providers():
        raise ProviderError("this build of ONNX Runtime has no CUDA execution provider")
    if not has_driver():
        raise ProviderError("there is no NVIDIA driver on this machine (libcuda.so.1)")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the libraries that it cannot find
        ort.preload_dlls(directory="")  # from the nvidia-* packages, which are on no library path
    entries = {"session.disable_cpu_ep_fallback": "1", "session.record_ep_graph_assignment_info": "1"}
    try:
        session = _session(content, CUDA, cuda_options(gpu), entries)
    except Exception as error:
        raise ProviderError(f"ONNX Runtime found no usable CUDA device or libraries: {reason(error)}") from None
    if session.get_providers()[0] != CUDA:
        raise ProviderError("ONNX Runtime found no usable CUDA device or libraries")
    if elsewhere := misplaced(placement(session)):
        raise ProviderError(f"not every node of the model would run on the GPU: {', '.join(elsewhere)}")
    return session


def cuda_options(gpu: GpuOptions) -> dict[str, str]:
    """Return the CUDA provider's options. TensorFloat-32 (10 bits of mantissa) would differ by more than 1e-5."""
    return {
        "gpu_mem_limit": str(gpu.memory * MIB),
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
    }


def placement(session: ort.InferenceSession) -> list[tuple[str, str]]:
    """Return (execution provider, operator) of each node; the session must record graph assignment."""
    assigned = session.get_provider_graph_assignment_info()
    return [(subgraph.ep_name, node.op_type) for subgraph in assigned for node in subgraph.get_nodes()]


def misplaced(nodes: list[tuple[str, str]]) -> list[str]:
    """Describe nodes that are not on the GPU, copies between CPU and GPU, or the lack of any node."""
    if not nodes:
        return ["no node is assigned"]
    wrong = (f"{operator} on {provider}" for provider, operator in nodes if provider != CUDA or "Memcpy" in operator)
    return sorted(set(wrong))


def has_driver() -> bool:
    """Whether a CUDA driver is installed. Checked first: ONNX Runtime's own attempt is slow and prints a lot."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _session(
    content: bytes, provider: str, provider_options: Mapping[str, str] = {}, entries: Mapping[str, str] = {}
) -> ort.InferenceSession:
    global is_runtime_used
    is_runtime_used = True
    ort.set_default_logger_severity(4)  # its message about a missing GPU has ten lines, ours has one
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the graph is too small for more
    for name, value in {"session.intra_op.allow_spinning": "0", **entries}.items():
        options.add_session_config_entry(name, value)
    session = ort.InferenceSession(content, options, providers=[(provider, provider_options)], enable_fallback=0)
    session.disable_fallback()  # run() has a fallback of its own
    return session
