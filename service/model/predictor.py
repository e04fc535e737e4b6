"""Predict probabilities with a loaded model, and notice when its GPU is lost."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from patient.artefact import FILE, Metadata
from patient.encoding import Floats, from_bytes
from service.model.device import DeviceLost, reason
from service.model.execution import CHUNK_ROWS, EXAMPLES, MAX_HOST_ROWS, DirectRun, HostBuffers, Run
from service.model.session import CPU

log = logging.getLogger(__name__)


@dataclass
class Predictor:
    """A loaded and checked model. Only the loss of its GPU changes it.

    provider: the execution provider that runs it
    cpu, gpu: None if it never runs there. A lost GPU's session is kept: destroying it in its broken context can crash
              the process
    fallback: why provider=auto does not use a GPU
    crossover: the smallest run, in rows, that goes to the GPU; None without a GPU
    failure: how the GPU was lost, if the CPU may not replace it
    file, digest: the model file and its SHA-256
    """

    metadata: Metadata
    provider: str
    cpu: Run | None
    gpu: Run | None = None
    fallback: str | None = None
    crossover: int | None = None
    failure: str | None = None
    file: Path = Path(FILE)
    digest: str = ""

    def __post_init__(self) -> None:
        self._host_buffers = HostBuffers(self.cpu.session) if isinstance(self.cpu, DirectRun) else None

    @property
    def version(self) -> str:
        return self.metadata.version

    @property
    def is_gpu_lost(self) -> bool:
        return self.gpu is not None and (self.crossover is None or self.failure is not None)

    def __call__(self, rows: Floats) -> Floats:
        """Predict float32[N] of probabilities for float32[N,13], NaN = not taken. Thread-safe; releases the GIL.

        Raises DeviceLost once the GPU is lost, if only the GPU may be used.
        """
        crossover = self.crossover  # read once: another thread may notice the loss of the GPU
        if self.cpu is not None and (crossover is None or len(rows) < crossover):
            return self.cpu(rows)
        return self._run_on_gpu(rows)

    def runs_on_gpu(self, rows: int) -> bool:
        """Whether a run of so many rows goes to the GPU: the caller then waits for it without holding the GIL."""
        crossover = self.crossover
        return crossover is not None and (self.cpu is None or rows >= crossover)

    def predict_columns(self, columns: Floats) -> Floats:
        """Predict float32[N] for float32[13,N]. Thread-safe; raises DeviceLost."""
        count = columns.shape[1]
        found = np.empty(count, np.float32)
        run_rows = CHUNK_ROWS if self.crossover is None else max(count, 1)  # a GPU is fastest with all at once
        for start in range(0, count, run_rows):
            part = slice(start, start + run_rows)
            found[part] = self(np.ascontiguousarray(columns[:, part].T))  # transposed here, it is in the cache
        return found

    def predict_bytes(self, rows: Sequence[bytes]) -> list[float]:
        """Predict rows encoded by patient.encoding.as_bytes. Not thread-safe: for the event loop's thread only."""
        crossover = self.crossover
        if self._host_buffers and len(rows) <= MAX_HOST_ROWS and (crossover is None or len(rows) < crossover):
            return self._host_buffers(rows)
        probabilities: list[float] = self(from_bytes(rows)).tolist()
        return probabilities

    def probe(self) -> None:
        """Detect the loss of an idle GPU. Raises DeviceLost if only the GPU may be used."""
        if self.crossover is not None:
            self._run_on_gpu(EXAMPLES[:1])

    def _run_on_gpu(self, rows: Floats) -> Floats:
        assert self.gpu is not None
        if self.failure is not None:
            raise DeviceLost(self.failure)
        try:
            return self.gpu(rows)
        except Exception as error:
            if self._is_gpu_alive():
                raise  # too little memory for this run, or invalid rows: the next run may succeed
            cause = reason(error)
        if self.cpu is None:
            if self.failure is None:
                self.failure = f"The GPU was lost ({cause}); the service must be restarted."
                log.error("%s", self.failure)
            raise DeviceLost(self.failure)
        if self.crossover is not None:
            self.provider, self.crossover = CPU, None
            self.fallback = f"the GPU was lost while it served: {cause}"
            log.warning("provider=auto falls back to the CPU: %s", self.fallback)
        return self.cpu(rows)

    def _is_gpu_alive(self) -> bool:
        """Whether the GPU still runs the model: a failed CUDA context fails every call until the process ends.

        Tested by a run, because ONNX Runtime has no type of error for it, and many messages.
        """
        assert self.gpu is not None
        try:
            self.gpu(EXAMPLES[:1])
        except Exception:
            return False
        return True
