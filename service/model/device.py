"""How a GPU is used, and how it fails. Importing this does not import ONNX Runtime."""

import re
from dataclasses import dataclass

from service.settings import GpuMode, Settings


@dataclass(frozen=True)
class GpuOptions:
    """How a GPU is used where the provider is not `cpu`.

    mode: how rows reach it; memory: MiB that its arena may take; crossover: with `auto`, rows from which on a run goes
    to the GPU, smaller ones to the CPU; None measures it at start-up
    """

    mode: GpuMode = "iobinding"
    memory: int = 256
    crossover: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> "GpuOptions":
        return cls(settings.gpu_mode, settings.gpu_memory, settings.crossover)


class ProviderError(Exception):
    """The requested execution provider is not available. The message is one line."""


class DeviceLost(Exception):
    """The GPU failed while serving, and with provider=cuda nothing else may answer. The message is one line."""


def reason(error: Exception) -> str:
    """What went wrong, in one line: CUDA's own words where there are any, without the machine's name after them."""
    found = re.search(r"(CUDA|CUBLAS\w*|CUDNN\w*) (failure|error)[^;\n]*", str(error))
    return found[0].strip() if found else str(error).partition("\n")[0]
