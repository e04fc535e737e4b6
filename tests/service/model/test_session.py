"""The whole model runs on the GPU, or none of it."""

import onnxruntime as ort
import pytest

from service.model.device import GpuOptions
from service.model.session import CPU, CUDA, cuda_options, misplaced, placement
from tests.conftest import MODELS


def test_a_placement_is_read_node_by_node() -> None:
    """A CPU session reports each of the model's nodes on the CPU."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(MODELS / "2/model.onnx", options, providers=[CPU])
    nodes = placement(session)
    assert {provider for provider, _ in nodes} == {CPU}
    assert {"Gather", "IsNaN", "Where", "Concat", "Relu", "Sigmoid"} <= {operator for _, operator in nodes}
    assert "Gather on CPUExecutionProvider" in misplaced(nodes)


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ([(CUDA, "Gather"), (CUDA, "Gemm")], []),
        ([(CUDA, "Gather"), (CPU, "Gemm"), (CPU, "Gemm")], ["Gemm on CPUExecutionProvider"]),
        ([(CUDA, "MemcpyFromHost"), (CUDA, "Gemm")], ["MemcpyFromHost on CUDAExecutionProvider"]),
        ([("", "Gemm")], ["Gemm on "]),
        ([], ["no node is assigned"]),
    ],
    ids=["all on the GPU", "one on the CPU", "a copy", "nowhere", "none"],
)
def test_every_node_must_be_on_the_gpu_and_none_may_copy(nodes: list[tuple[str, str]], found: list[str]) -> None:
    """Each obstacle is named."""
    assert misplaced(nodes) == found


def test_the_gpus_memory_and_precision_are_set() -> None:
    """A limit in bytes, no doubling, full float32."""
    assert cuda_options(GpuOptions("iobinding", 100)) == {
        "gpu_mem_limit": "104857600",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
    }
