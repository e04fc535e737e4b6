"""What may be asked of the GPU, and how it fails. Who imports this does not import ONNX Runtime."""

import re
from dataclasses import dataclass
from typing import Literal

Provider = Literal["auto", "cuda", "cpu"]
Mode = Literal["plain", "iobinding", "graphs"]


@dataclass(frozen=True)
class Gpu:
    """How a GPU is used where the provider is not `cpu`.

    mode: how rows reach it; memory: MiB that its arena may take; crossover: under `auto`, rows from which on a run goes
    to the GPU, smaller ones to the CPU; None measures it at start-up
    """

    mode: Mode = "iobinding"
    memory: int = 256
    crossover: int | None = None


class ProviderError(Exception):
    """The execution provider that was asked for is not to be had. The message is one line."""


class DeviceLost(Exception):
    """The GPU failed while it served, and provider=cuda lets nothing else answer. The message is one line."""


def reason(error: Exception) -> str:
    """What went wrong, in one line: CUDA's own words where there are any, and not the machine's name after them."""
    found = re.search(r"(CUDA|CUBLAS\w*|CUDNN\w*) (failure|error)[^;\n]*", str(error))
    return found[0].strip() if found else str(error).partition("\n")[0]
