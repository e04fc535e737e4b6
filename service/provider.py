"""What may be asked of the GPU, and how it fails. Who imports this does not import ONNX Runtime."""

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
