"""Some rows through a CPU session, in memory that Python and ONNX Runtime share.

No array is made on the way. Warm, that hardly matters; but between two runs the event loop handles dozens of requests,
and whatever code and memory a run touches has left the processor's caches by then.
"""

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from patient.artefact import INPUT, OUTPUT
from patient.encoding import ROW_BYTES
from patient.record import FIELDS

LARGEST = 256  # rows; more are worth an array


class Few:
    """Buffers of 1, 2, 4, ... LARGEST rows, each bound to the session. For one thread."""

    def __init__(self, session: ort.InferenceSession) -> None:
        sizes = [2**n for n in range(LARGEST.bit_length())]
        self.buffers = [Buffer(session, size) for size in sizes]

    def __call__(self, rows: Sequence[bytes]) -> list[float]:
        """1 to LARGEST rows as patient.encoding.as_bytes makes them, to as many probabilities."""
        return self.buffers[(len(rows) - 1).bit_length()](rows)


class Buffer:
    """Input and output of one size. What earlier runs left in the rows beyond is computed again, and not read."""

    def __init__(self, session: ort.InferenceSession, size: int) -> None:
        rows, answers = np.zeros((size, len(FIELDS)), np.float32), np.zeros((size, 1), np.float32)
        self.session, self.binding = session, session.io_binding()
        self.values = [ort.OrtValue.ortvalue_from_numpy(rows), ort.OrtValue.ortvalue_from_numpy(answers)]  # no copies
        self.binding.bind_ortvalue_input(INPUT, self.values[0])
        self.binding.bind_ortvalue_output(OUTPUT, self.values[1])
        self.rows, self.answers = rows.data.cast("B"), answers.data.cast("B").cast("f")

    def __call__(self, rows: Sequence[bytes]) -> list[float]:
        """1 to `size` rows."""
        self.rows[: ROW_BYTES * len(rows)] = b"".join(rows)
        self.session.run_with_iobinding(self.binding)
        answers: list[float] = self.answers[: len(rows)].tolist()  # type: ignore[assignment]  # cast to "f" above
        return answers
