"""Ways for rows to go through a session: as they are, or in fixed buffers that lie on the device."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort

from patient.artefact import INPUT, OUTPUT
from patient.encoding import Floats
from patient.record import FIELDS
from service.model.device import Mode

Run = Callable[[Floats], Floats]  # float32[N,13], NaN = missing, to float32[N] of probabilities; thread-safe

CHUNK = 4096  # rows a run on the CPU: one run of 100,000 is half as fast, its intermediate arrays leave the cache
SIZES = (1, 32, 1024, 4096, 16_384, 65_536)  # rows of the buffers on a GPU


def on_device(session: ort.InferenceSession, mode: Mode) -> Run:
    """How a GPU session is run in this mode."""
    if mode == "plain":
        return Plain(session, SIZES[-1])
    return Graphs(session) if mode == "graphs" else Buckets(session, "cuda")


class Plain:
    """Each run allocates what it needs; several threads may run at once."""

    def __init__(self, session: ort.InferenceSession, chunk: int = CHUNK) -> None:
        self.session, self.chunk = session, chunk

    def __call__(self, rows: Floats) -> Floats:
        """In runs of at most `chunk` rows."""
        if not len(rows):
            return np.empty(0, np.float32)  # cuBLAS refuses a matrix without rows
        if len(rows) <= self.chunk:
            answers: Floats = self.session.run([OUTPUT], {INPUT: rows})[0][:, 0]
            return answers
        return np.concatenate([self(rows[start : start + self.chunk]) for start in range(0, len(rows), self.chunk)])


class Buckets:
    """Each run is padded to one of a few sizes, whose input and output lie at a fixed place on the device.

    So no run allocates: what the largest takes is all that is ever taken. One run at a time.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        device: str,
        sizes: tuple[int, ...] = SIZES,
        capture: bool = False,
    ) -> None:
        self.buckets = [Bucket(session, size, device, n if capture else None) for n, size in enumerate(sizes, 1)]
        self.lock = threading.Lock()

    def __call__(self, rows: Floats) -> Floats:
        """The largest bucket as often as it is filled, then the smallest that holds the rest."""
        largest = self.buckets[-1].size
        if len(rows) <= largest:
            bucket = next(bucket for bucket in self.buckets if bucket.size >= len(rows))
            with self.lock:
                return bucket(rows)
        return np.concatenate([self(rows[start : start + largest]) for start in range(0, len(rows), largest)])


class Graphs:
    """Buckets, each of which launches as one captured CUDA graph, in a thread of their own.

    ONNX Runtime keeps a captured graph, and with it cuBLAS and cuDNN handles, for each thread that ever ran: a pool's
    threads come and go, and would capture again and leave theirs behind.
    """

    def __init__(self, session: ort.InferenceSession, device: str = "cuda", sizes: tuple[int, ...] = SIZES) -> None:
        self.thread = ThreadPoolExecutor(1, "graphs")
        self.buckets = self.thread.submit(Buckets, session, device, sizes, True).result()

    def __call__(self, rows: Floats) -> Floats:
        """As Buckets."""
        return self.thread.submit(self.buckets, rows).result()


class Bucket:
    """Buffers of one size, bound to the session. Used by one thread at a time."""

    def __init__(self, session: ort.InferenceSession, size: int, device: str, graph: int | None) -> None:
        self.session, self.size = session, size
        self.padded = np.zeros((size, len(FIELDS)), np.float32)
        self.rows = ort.OrtValue.ortvalue_from_shape_and_type((size, len(FIELDS)), np.float32, device)
        self.answers = ort.OrtValue.ortvalue_from_shape_and_type((size, 1), np.float32, device)
        self.binding = session.io_binding()
        self.binding.bind_ortvalue_input(INPUT, self.rows)
        self.binding.bind_ortvalue_output(OUTPUT, self.answers)
        self.options = None  # and not empty ones: asked for a graph that they do not name, those take 50 us to say so
        if graph is not None:
            self.options = ort.RunOptions()
            self.options.add_run_config_entry("gpu_graph_id", str(graph))

    def __call__(self, rows: Floats) -> Floats:
        """float32[N,13] with N <= size. What the padding holds is computed too, and not read."""
        count = len(rows)
        if count < self.size:
            self.padded[:count] = rows
            rows = self.padded
        self.rows.update_inplace(np.ascontiguousarray(rows, np.float32))  # it copies bytes, of whatever type
        self.session.run_with_iobinding(self.binding, self.options)
        answers: Floats = self.answers.numpy()[:count, 0].copy()  # on the CPU it would be a view of the buffer
        return answers
