"""Tests that need a CUDA device. Without one `make test-gpu` fails and `make test` skips them.

Needs numpy, pydantic, onnxruntime-gpu with its CUDA libraries, and pytest; no web framework, no trainer.
"""

import ctypes
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from patient.encoding import Floats
from service.model.device import GpuOptions, ProviderError
from service.model.execution import DEVICE_ROWS, DirectRun, Run, on_device
from service.model.loading import TOLERANCE, load
from service.model.session import CUDA, MIB, create_cpu_session, create_gpu_session, has_driver, misplaced, placement
from service.settings import GpuMode

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda")]

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models/heart_disease"
MODES: tuple[GpuMode, ...] = ("plain", "iobinding")
COUNTS = [0, 1, 2, 31, 32, 33, 1000, 1025, 5000, DEVICE_ROWS[-1], DEVICE_ROWS[-1] + 1, 150_000]


@pytest.fixture(scope="module")
def cuda(request: pytest.FixtureRequest) -> None:
    """Without a device, fail under `-m gpu` and skip otherwise."""
    if not has_driver():
        missing = "no CUDA device: there is no NVIDIA driver (libcuda.so.1)"
        if request.config.getoption("-m") == "gpu":
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.fixture(scope="module")
def content() -> bytes:
    """The newest committed model."""
    return max(MODELS.glob("*/model.onnx"), key=lambda file: int(file.parent.name)).read_bytes()


@pytest.fixture(scope="module", params=MODES)
def gpu(request: pytest.FixtureRequest, content: bytes) -> Run:
    """The model on the GPU, in each mode."""
    return on_device(create_gpu_session(content, GpuOptions(request.param)), request.param)


def patients(count: int, first: int = 0) -> Floats:
    """float32[count,13]: the data set repeated, beginning at record `first`."""
    records = np.genfromtxt(ROOT / "trainer/data/cleveland.csv", np.float32, delimiter=",", skip_header=1)[:, :13]
    return np.resize(np.roll(records, first, axis=0), (count, 13))


def memory_used() -> int:
    """Bytes of the device in use, by all processes."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    assert ctypes.CDLL("libcuda.so.1").cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
    return total.value - free.value


@pytest.mark.parametrize("mode", MODES)
def test_every_node_is_placed_on_the_gpu(content: bytes, mode: GpuMode) -> None:
    """No node on the CPU, no copy between the two, and the options are set."""
    session = create_gpu_session(content, GpuOptions(mode, 128))
    assert session.get_providers()[0] == CUDA
    assert misplaced(placement(session)) == []
    options = session.get_provider_options()[CUDA]
    assert options["gpu_mem_limit"] == str(128 * MIB)
    assert options["use_tf32"] == "0"


def test_the_gpu_gives_the_probabilities_of_the_cpu(gpu: Run, content: bytes) -> None:
    """Within 1e-5, for any number of rows and whichever buffers they use, repeatedly."""
    cpu = DirectRun(create_cpu_session(content))
    for turn in range(3):
        for count in COUNTS:
            rows = patients(count, turn)
            answers = gpu(rows)
            assert answers.shape == (count,)
            np.testing.assert_allclose(answers, cpu(rows), rtol=0, atol=TOLERANCE)


def test_threads_get_their_own_answers(gpu: Run, content: bytes) -> None:
    """Many short-lived threads, as in a web server."""
    cpu = DirectRun(create_cpu_session(content))
    wrong: list[object] = []

    def work(seed: int) -> None:
        try:
            for count in (1, 7, 500, 3000):
                rows = patients(count, seed)
                np.testing.assert_allclose(gpu(rows), cpu(rows), rtol=0, atol=TOLERANCE)
        except Exception as error:
            wrong.append(error)

    for round_ in range(4):
        threads = [threading.Thread(target=work, args=(round_ * 8 + n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.parametrize("mode", MODES)
def test_the_service_loads_on_the_gpu_alone(mode: GpuMode) -> None:
    """provider=cuda keeps no CPU session."""
    model = load(MODELS, "cuda", GpuOptions(mode))
    assert (model.provider, model.cpu, model.fallback, model.crossover) == (CUDA, None, None, 0)
    model.probe()
    assert np.isfinite(model(patients(100))).all()


def test_auto_measures_from_how_many_rows_on_the_gpu_is_faster() -> None:
    """Or reports that it never is."""
    model = load(MODELS, "auto")
    if model.crossover is None:
        assert model.fallback == "the CPU was faster than this GPU at every size tried"
    else:
        assert model.provider == CUDA
        assert 0 <= model.crossover <= 16_384


def test_a_crossover_of_zero_sends_every_run_to_the_gpu() -> None:
    model = load(MODELS, "auto", GpuOptions(crossover=0))
    assert (model.provider, model.crossover) == (CUDA, 0)
    assert np.isfinite(model(patients(1))).all()


def test_the_memory_that_runs_take_is_bounded() -> None:
    """Runs allocate no more than the limit, and memory does not grow."""
    model = load(MODELS, "cuda", GpuOptions(memory=128))
    before = memory_used()
    for turn in range(50):
        for count in COUNTS:
            model(patients(count, turn))
    assert memory_used() - before < 128 * MIB


@pytest.mark.parametrize("mode", ["plain", "iobinding"])
def test_models_are_loaded_beside_a_serving_one_and_leak_no_memory(mode: GpuMode) -> None:
    """A new version takes over without a gap; ten loads free their memory."""
    model = load(MODELS, "cuda", GpuOptions(mode))
    rows = patients(5000)
    expected = model(rows)
    stop, wrong = threading.Event(), list[object]()

    def work() -> None:
        while not stop.is_set():
            try:
                np.testing.assert_array_equal(model(rows), expected)
            except Exception as error:
                wrong.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    load(MODELS, "cuda", GpuOptions(mode))
    before = memory_used()
    for _ in range(10):
        assert load(MODELS, "cuda", GpuOptions(mode)).provider == CUDA
    stop.set()
    thread.join()
    assert not wrong
    assert memory_used() - before < 64 * MIB


def test_a_limit_that_the_largest_size_exceeds_stops_the_start() -> None:
    """Not the first large request."""
    with pytest.raises(ProviderError, match=r"provider=cuda: .*(first runs|usable)"):
        load(MODELS, "cuda", GpuOptions(memory=1))


LOSE = """
import ctypes, os, sys
import numpy as np
from pathlib import Path
from service.model.device import DeviceLost, GpuOptions
from service.model.execution import EXAMPLES
from service.model.loading import load

model = load(Path("models/heart_disease"), sys.argv[1], GpuOptions(crossover=0))
expected = model(EXAMPLES)
driver = ctypes.CDLL("libcuda.so.1")
device, context, module, kernel = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
ptx = b".version 6.3\\n.target sm_75\\n.address_size 64\\n.visible .entry die() { trap; }\\n"
assert driver.cuInit(0) == 0
assert driver.cuDeviceGet(ctypes.byref(device), 0) == 0
assert driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
assert driver.cuCtxSetCurrent(context) == 0
assert driver.cuModuleLoadData(ctypes.byref(module), ptx) == 0
assert driver.cuModuleGetFunction(ctypes.byref(kernel), module, b"die") == 0
assert driver.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, None, None, None) == 0
assert driver.cuCtxSynchronize() != 0
outcomes = []
for call in (lambda: model(EXAMPLES), model.probe, lambda: model(EXAMPLES)):
    try:
        answers = call()
        outcomes.append("answered" if answers is None or np.allclose(answers, expected, atol=1e-5) else "wrong")
    except DeviceLost as error:
        outcomes.append("lost")
print(*outcomes, model.provider, model.fallback, model.failure, sep="|", flush=True)
os._exit(0)  # destroying a broken context can crash
"""


@pytest.mark.parametrize(
    ("provider", "outcome"),
    [
        ("cuda", "lost|lost|lost|CUDAExecutionProvider|None|The GPU was lost (CU"),
        ("auto", "answered|answered|answered|CPUExecutionProvider|the GPU was lost while it served: CU"),
    ],
)
def test_a_lost_device_is_reported(provider: str, outcome: str) -> None:
    """A kernel that traps breaks the CUDA context for good: `cuda` raises from then on, `auto` uses the CPU."""
    command = [sys.executable, "-c", LOSE, provider]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(outcome)
