"""What only a CUDA device can show. `make test-gpu` fails where there is none; `make test` passes these by.

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
from service.model.predictor import TOLERANCE, load
from service.model.session import CUDA, MIB, has_driver, misplaced, on_cpu, on_gpu, placement
from service.settings import GpuMode

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda")]

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models/heart_disease"
MODES: tuple[GpuMode, ...] = ("plain", "iobinding")
COUNTS = [0, 1, 2, 31, 32, 33, 1000, 1025, 5000, DEVICE_ROWS[-1], DEVICE_ROWS[-1] + 1, 150_000]


@pytest.fixture(scope="module")
def cuda(request: pytest.FixtureRequest) -> None:
    """A device; without one these tests fail where they were asked for, and are skipped among all others."""
    if not has_driver():
        missing = "no CUDA device: no NVIDIA driver (libcuda.so.1) here"
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
    return on_device(on_gpu(content, GpuOptions(request.param)), request.param)


def patients(count: int, turn: int = 0) -> Floats:
    """float32[count,13]: the data set over and over, from another record on in each turn."""
    records = np.genfromtxt(ROOT / "trainer/data/cleveland.csv", np.float32, delimiter=",", skip_header=1)[:, :13]
    return np.resize(np.roll(records, turn, axis=0), (count, 13))


def memory_used() -> int:
    """Bytes of the device that are taken, by whomever."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    assert ctypes.CDLL("libcuda.so.1").cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
    return total.value - free.value


@pytest.mark.parametrize("mode", MODES)
def test_every_node_is_placed_on_the_gpu(content: bytes, mode: GpuMode) -> None:
    """No node on the CPU, no copy between the two, and the options are those that were asked for."""
    session = on_gpu(content, GpuOptions(mode, 128))
    assert session.get_providers()[0] == CUDA
    assert misplaced(placement(session)) == []
    options = session.get_provider_options()[CUDA]
    assert options["gpu_mem_limit"] == str(128 * MIB)
    assert options["use_tf32"] == "0"


def test_the_gpu_answers_as_the_cpu_does(gpu: Run, content: bytes) -> None:
    """Within 1e-5, for as many rows as come, whichever bucket they fall into, again and again."""
    cpu = DirectRun(on_cpu(content))
    for turn in range(3):
        for count in COUNTS:
            rows = patients(count, turn)
            answers = gpu(rows)
            assert answers.shape == (count,)
            np.testing.assert_allclose(answers, cpu(rows), rtol=0, atol=TOLERANCE)


def test_threads_get_their_own_answers(gpu: Run, content: bytes) -> None:
    """Many threads that come and go, as a web server's do."""
    cpu = DirectRun(on_cpu(content))
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
    """provider=cuda: no CPU session is left that could answer."""
    model = load(MODELS, "cuda", GpuOptions(mode))
    assert (model.provider, model.cpu, model.fallback, model.crossover) == (CUDA, None, None, 0)
    model.probe()
    assert np.isfinite(model(patients(100))).all()


def test_auto_measures_from_how_many_rows_on_the_gpu_pays() -> None:
    """Or says that it never does."""
    model = load(MODELS, "auto")
    if model.crossover is None:
        assert model.fallback == "the CPU was faster than this GPU at every size tried"
    else:
        assert model.provider == CUDA
        assert 0 <= model.crossover <= 16_384


def test_a_crossover_of_zero_sends_every_run_to_the_gpu() -> None:
    """As it was told."""
    model = load(MODELS, "auto", GpuOptions(crossover=0))
    assert (model.provider, model.crossover) == (CUDA, 0)
    assert np.isfinite(model(patients(1))).all()


def test_the_memory_that_runs_take_is_bounded() -> None:
    """From the first request on nothing is taken beyond the limit, and nothing that grows."""
    model = load(MODELS, "cuda", GpuOptions(memory=128))
    before = memory_used()
    for turn in range(50):
        for count in COUNTS:
            model(patients(count, turn))
    assert memory_used() - before < 128 * MIB


@pytest.mark.parametrize("mode", ["plain", "iobinding"])
def test_models_are_loaded_beside_one_that_answers_and_leave_no_memory_behind(mode: GpuMode) -> None:
    """A new version takes over without a gap; what ten of them took is given back."""
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
from service.model.device import DeviceLost
from service.model.predictor import EXAMPLES, load
from service.model.device import Gpu

model = load(Path("models/heart_disease"), sys.argv[1], Gpu(crossover=0))
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
for ask in (lambda: model(EXAMPLES), model.probe, lambda: model(EXAMPLES)):
    try:
        answers = ask()
        outcomes.append("answered" if answers is None or np.allclose(answers, expected, atol=1e-5) else "wrong")
    except DeviceLost as error:
        outcomes.append("lost")
print(*outcomes, model.provider, model.fallback, model.failure, sep="|", flush=True)
os._exit(0)  # a broken context may not come down in one piece
"""


@pytest.mark.parametrize(
    ("provider", "outcome"),
    [
        ("cuda", "lost|lost|lost|CUDAExecutionProvider|None|The GPU was lost (CU"),
        ("auto", "answered|answered|answered|CPUExecutionProvider|the GPU was lost while it served: CU"),
    ],
)
def test_a_device_that_is_lost_is_told_and_never_hidden(provider: str, outcome: str) -> None:
    """A kernel that traps breaks the CUDA context for good: `cuda` refuses from then on, `auto` says what it did."""
    command = [sys.executable, "-c", LOSE, provider]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(outcome)
