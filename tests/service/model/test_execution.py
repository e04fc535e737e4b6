"""Every way to run a session gives the same probabilities, in order, also to concurrent threads."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patient.encoding import Floats
from service.model.execution import CHUNK_ROWS, DEVICE_ROWS, DeviceBuffers, DirectRun, Run, on_device
from service.model.session import create_cpu_session
from tests.conftest import MODELS
from trainer.dataset import Dataset


@pytest.fixture(scope="module")
def session() -> ort.InferenceSession:
    """The committed model on the CPU, where buffers are bound as on a GPU."""
    return create_cpu_session(Path(MODELS / "2/model.onnx").read_bytes())


@pytest.fixture(scope="module")
def plain(session: ort.InferenceSession) -> Run:
    """One run for all rows, as the reference."""
    return DirectRun(session, 10**6)


@pytest.fixture(scope="module", params=["chunks", "buffers", "few buffers"])
def run(request: pytest.FixtureRequest, session: ort.InferenceSession) -> Run:
    kinds: dict[str, Callable[[], Run]] = {
        "chunks": lambda: DirectRun(session),
        "buffers": lambda: DeviceBuffers(session, "cpu"),
        "few buffers": lambda: DeviceBuffers(session, "cpu", (3, 700)),
    }
    return kinds[request.param]()


def patients(cleveland: Dataset, count: int, first: int) -> Floats:
    """Records of the data set over and over, beginning with one of them."""
    return np.resize(np.roll(cleveland.rows, -first, axis=0), (count, cleveland.rows.shape[1]))


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, 5000), first=st.integers(0, 302))
def test_any_number_of_rows_is_answered_as_in_one_run(
    run: Run, plain: Run, cleveland: Dataset, count: int, first: int
) -> None:
    """Padding and cutting change nothing, and what an earlier run left in a buffer is not read."""
    rows = patients(cleveland, count, first)
    answers = run(rows)
    assert answers.shape == (count,)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, plain(rows), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "count", [0, *(n + d for n in (*DEVICE_ROWS[:-1], 3, 700) for d in (-1, 0, 1)), 2 * CHUNK_ROWS, 70_000]
)
def test_the_edges_of_the_buffer_sizes_are_no_exception(run: Run, plain: Run, cleveland: Dataset, count: int) -> None:
    """One less than a size, a size, one more."""
    rows = patients(cleveland, count, 7)
    np.testing.assert_allclose(run(rows), plain(rows), rtol=0, atol=1e-6)


def test_a_later_run_does_not_touch_an_earlier_answer(run: Run, cleveland: Dataset) -> None:
    """Results are copies; the buffer belongs to the next run."""
    first = run(cleveland.rows[:5])
    kept = first.copy()
    run(cleveland.rows[100:105])
    assert np.array_equal(first, kept)


def test_rows_may_have_any_memory_layout(session: ort.InferenceSession, plain: Run, cleveland: Dataset) -> None:
    """Buffers are filled byte by byte: columns first, a slice with steps, or doubles must be turned into rows first."""
    buffers = DeviceBuffers(session, "cpu", (4, 64))
    rows = cleveland.rows[:64]
    expected = plain(rows)
    doubles = cast(Floats, rows.astype(np.float64))
    for shaped in (np.asfortranarray(rows), np.repeat(rows, 2, axis=0)[::2], doubles):
        for count in (4, 5, 64):
            np.testing.assert_allclose(buffers(shaped[:count]), expected[:count], rtol=0, atol=1e-6)


def test_a_failed_run_releases_the_lock(session: ort.InferenceSession, plain: Run, cleveland: Dataset) -> None:
    """The next run is correct."""
    buffers = DeviceBuffers(session, "cpu", (8, 64))
    for count in (5, 8):
        with pytest.raises((ValueError, RuntimeError)):
            buffers(cleveland.rows[:count, :12])
    np.testing.assert_allclose(buffers(cleveland.rows[:20]), plain(cleveland.rows[:20]), rtol=0, atol=1e-6)


def test_threads_get_their_own_answers(run: Run, plain: Run, cleveland: Dataset) -> None:
    """Buffers are shared, answers are not; and the threads come and go."""
    wrong: list[object] = []

    def work(first: int) -> None:
        try:
            for count in (1, 2, 40, 900):
                rows = patients(cleveland, count, first)
                np.testing.assert_allclose(run(rows), plain(rows), rtol=0, atol=1e-6)
        except Exception as error:
            wrong.append(error)

    for turn in range(3):
        threads = [threading.Thread(target=work, args=(8 * turn + n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_no_rows_run_nothing(session: ort.InferenceSession) -> None:
    """The CPU would take them; cuBLAS refuses a matrix without rows."""
    assert DirectRun(cast(ort.InferenceSession, None))(np.empty((0, 13), np.float32)).shape == (0,)
    assert DirectRun(session)(np.empty((0, 13), np.float32)).shape == (0,)


def test_plain_uses_no_buffers(session: ort.InferenceSession) -> None:
    """The mode decides; it needs no device."""
    run = on_device(session, "plain")
    assert isinstance(run, DirectRun)
    assert run.chunk_rows == DEVICE_ROWS[-1]
