"""Options and errors of the GPU. Importing this does not import ONNX Runtime."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.settings import GpuMode, Settings


@dataclass(frozen=True)
class GpuOptions:
    """How a GPU is used where the provider is not `cpu`.

    mode: how rows are copied to it
    memory: limit of its arena in MiB
    crossover: for provider=auto, the smallest run, in rows, that goes to the GPU; None measures it at start-up
    """

    mode: "GpuMode" = "iobinding"
    memory: int = 256
    crossover: int | None = None

    @classmethod
    def of(cls, settings: "Settings") -> "GpuOptions":
        return cls(settings.gpu_mode, settings.gpu_memory, settings.crossover)


class ProviderError(Exception):
    """The requested execution provider is not available. The message is one line."""


class DeviceLost(Exception):
    """The GPU failed while serving, and provider=cuda allows nothing else. The message is one line."""


def reason(error: BaseException) -> str:
    """Return one line of an error: CUDA's own message if there is one, without the host name that follows it."""
    found = re.search(r"(CUDA|CUBLAS\w*|CUDNN\w*) (failure|error)[^;\n]*", str(error))
    return found[0].strip() if found else str(error).partition("\n")[0]
