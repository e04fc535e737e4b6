"""Cut our model file where its encoding ends: `python -m benchmarks.peers.tutorial_model`.

Writes tutorial.onnx, from the 29 encoded inputs on, and tutorial.json with the statistics that the graph encoded by.
"""

import json
import os
from pathlib import Path

import onnx
from onnx import numpy_helper

from patient.record import measurements


def cut(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, tuple[float, float]]]:
    """The graph from its first layer on, with the input "encoded"; and mean and 1 / deviation of each number."""
    graph = model.graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    used = {node.op_type: [tensors[name] for name in node.input if name in tensors] for node in graph.node}
    (mean,), (scale,) = used["Sub"], used["Mul"]
    rest = list(graph.node)[[node.op_type for node in graph.node].index("MatMul") :]
    rest[0].input[0] = "encoded"
    names = {name for node in rest for name in node.input}
    source = onnx.helper.make_tensor_value_info("encoded", onnx.TensorProto.FLOAT, ["N", 29])
    kept = [tensor for tensor in graph.initializer if tensor.name in names]
    cut = onnx.helper.make_model(
        onnx.helper.make_graph(rest, "network", [source], list(graph.output), kept),
        opset_imports=list(model.opset_import),
        ir_version=model.ir_version,
    )
    onnx.checker.check_model(cut, full_check=True)
    numbers = [field.name for field in measurements() if not field.codes]
    return cut, dict(zip(numbers, zip(mean.ravel().tolist(), scale.ravel().tolist(), strict=True), strict=True))


if __name__ == "__main__":
    work = Path(os.environ["BENCH_WORK"])
    network, scales = cut(onnx.load(os.environ["BENCH_MODEL"]))
    onnx.save(network, work / "tutorial.onnx")
    (work / "tutorial.json").write_text(json.dumps(scales))
