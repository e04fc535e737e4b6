"""A GPU that fails while it serves is named, and never stood in for in silence."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, Fail, RuntimeException

from patient.encoding import Floats
from patient.record import EXAMPLE
from service.app import create_app, with_middleware
from service.model.device import DeviceLost, reason
from service.model.predictor import Predictor
from service.settings import Settings
from trainer.dataset import Dataset

# ONNX Runtime's words, with what it adds after them: where it happened, on which machine.
SOURCE = " ; GPU=0 ; hostname=ward-7 ; file=/src/cuda_stream_handle.cc ; line=33 ; expr=cudaStreamSynchronize(stream); "
ILLEGAL = "CUDA failure 700: an illegal memory access was encountered"
LOST = f"The GPU was lost ({ILLEGAL}); the service must be restarted."


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Fail(f"[ONNXRuntimeError] : 1 : FAIL : {ILLEGAL}{SOURCE}"), ILLEGAL),
        (RuntimeError(f"/src/cuda_call.cc:129 CudaCall() {ILLEGAL}{SOURCE}\n"), ILLEGAL),
        (
            RuntimeException(f"Non-zero status code returned while running Gemm node. CUBLAS failure 13: EXEC{SOURCE}"),
            "CUBLAS failure 13: EXEC",
        ),
        (
            Fail("CUDA error cudaErrorEccUncorrectable:an ECC error"),
            "CUDA error cudaErrorEccUncorrectable:an ECC error",
        ),
        (ValueError("first line\nsecond line"), "first line"),
        (ValueError(), ""),
    ],
)
def test_the_reason_is_cudas_own_in_one_line(error: Exception, words: str) -> None:
    """Without the machine's name, which follows it."""
    assert reason(error) == words


class Device:
    """A GPU for the predictor: the CPU's session answers, until it breaks as ONNX Runtime breaks, once or for good."""

    def __init__(self, predictor: Predictor) -> None:
        self.run, self.broken, self.failures, self.asked = predictor, False, 0, 0
        self.error: type[Exception] = Fail

    def __call__(self, rows: Floats) -> Floats:
        """As a Run."""
        self.asked += 1
        if self.broken or self.failures:
            self.failures = max(0, self.failures - 1)
            raise self.error(f"[ONNXRuntimeError] : 1 : FAIL : {ILLEGAL}{SOURCE}")
        return self.run(rows)


@pytest.fixture
def device(predictor: Predictor) -> Device:
    """Whole at first."""
    return Device(predictor)


@pytest.fixture
def strict(predictor: Predictor, device: Device) -> Predictor:
    """provider=cuda."""
    return replace(predictor, provider="CUDAExecutionProvider", cpu=None, gpu=device, crossover=0)


@pytest.fixture
def lenient(predictor: Predictor, device: Device) -> Predictor:
    """provider=auto, which sends ten rows and more to the GPU."""
    return replace(predictor, provider="CUDAExecutionProvider", gpu=device, crossover=10)


@pytest.mark.parametrize("error", [Fail, EPFail, RuntimeException, RuntimeError])
def test_cuda_refuses_from_the_loss_on(
    strict: Predictor,
    device: Device,
    error: type[Exception],
    cleveland: Dataset,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It never answers from the CPU, never tries the device again, and logs it once, whatever ONNX Runtime raises."""
    assert strict(cleveland.rows).shape == (303,)
    device.broken, device.error = True, error
    for _ in range(3):
        with pytest.raises(DeviceLost) as caught:
            strict(cleveland.rows[:1])
        assert str(caught.value) == LOST
    device.broken = False  # as if it could recover
    with pytest.raises(DeviceLost):
        strict(cleveland.rows)
    assert device.asked == 3  # an answer, the failure, and the question whether it was the last
    assert [record.message for record in caplog.records] == [LOST]


def test_auto_falls_back_to_the_cpu_and_says_so(
    lenient: Predictor, device: Device, predictor: Predictor, cleveland: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    """The run that met the loss is answered too, and from then on the CPU answers all."""
    device.broken = True
    assert np.array_equal(lenient(cleveland.rows), predictor(cleveland.rows))
    assert (lenient.provider, lenient.crossover) == ("CPUExecutionProvider", None)
    assert lenient.fallback == f"the GPU was lost while it served: {ILLEGAL}"
    assert [record.message for record in caplog.records] == [f"provider=auto falls back to the CPU: {lenient.fallback}"]
    device.broken = False
    lenient(cleveland.rows)
    lenient.probe()
    assert device.asked == 2


def test_many_threads_may_meet_the_loss_at_once(lenient: Predictor, device: Device, cleveland: Dataset) -> None:
    """All are answered."""
    device.broken = True
    answered: list[int] = []
    threads = [threading.Thread(target=lambda: answered.append(len(lenient(cleveland.rows)))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answered == [303] * 16


def test_a_failure_that_passes_reaches_who_asked_and_nobody_else(
    strict: Predictor, lenient: Predictor, device: Device, cleveland: Dataset
) -> None:
    """No memory for one run, say: the device answers the next, so it is not lost."""
    for model in (strict, lenient):
        device.failures = 1
        with pytest.raises(Fail):
            model(cleveland.rows)
        assert model(cleveland.rows).shape == (303,)
        assert (model.provider, model.failure, model.fallback) == ("CUDAExecutionProvider", None, None)


def test_rows_that_no_model_takes_do_not_cost_the_device(strict: Predictor, cleveland: Dataset) -> None:
    """Whoever sent them is told; the device goes on serving."""
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        strict(cleveland.rows[:, :12])
    assert strict(cleveland.rows).shape == (303,)
    assert strict.failure is None


def ready(model: Predictor) -> Iterator[TestClient]:
    """The app around a model."""
    with TestClient(create_app(Settings(), model), raise_server_exceptions=False) as client:
        yield client


def test_ready_notices_a_loss_that_no_request_met(strict: Predictor, device: Device) -> None:
    """503 with what happened, from the loss until the restart; the process itself is alive, and tells its model."""
    for client in ready(strict):
        assert client.get("/health/ready").json()["crossover"] == 0
        device.broken = True
        for _ in range(2):
            answer = client.get("/health/ready")
            assert (answer.status_code, answer.json()["detail"]) == (503, LOST)
            assert answer.headers["content-type"] == "application/problem+json"
            assert "ward-7" not in answer.text
        assert client.get("/health/live").status_code == 200
        assert client.get("/model").status_code == 200


@pytest.mark.parametrize("front", [True, False])
def test_a_prediction_meets_the_loss_as_a_503(strict: Predictor, device: Device, front: bool) -> None:
    """For single records and batches, through the front and without; nothing of the record is repeated."""
    app = create_app(Settings(), strict)
    with TestClient(with_middleware(app) if front else app, raise_server_exceptions=False) as client:
        assert client.post("/predict", json=EXAMPLE).status_code == 200
        device.broken = True
        for path, body in (("/predict", EXAMPLE), ("/predict/batch", [EXAMPLE])):
            answer = client.post(path, json=body)
            assert (answer.status_code, answer.json()["detail"]) == (503, LOST)
            assert answer.headers["content-type"] == "application/problem+json"


def test_ready_tells_of_the_fallback(lenient: Predictor, device: Device) -> None:
    """200: it serves, on the CPU, and says why."""
    for client in ready(lenient):
        assert client.get("/health/ready").json()["crossover"] == 10
        device.broken = True
        answer = client.get("/health/ready").json()
        assert answer["provider"] == "CPUExecutionProvider"
        assert answer["fallback"] == f"the GPU was lost while it served: {ILLEGAL}"
        assert answer["crossover"] is None


def test_a_table_with_blank_lines_alone_is_as_empty_for_a_gpu(strict: Predictor) -> None:
    """A chunk may have no rows, and a GPU takes a chunk as a whole."""
    with TestClient(create_app(Settings(), strict), raise_server_exceptions=False) as client:
        answer = client.post("/predict/batch", content=b" \n \n", headers={"Content-Type": "application/x-ndjson"})
    assert answer.status_code == 422
    assert "empty" in answer.json()["errors"][0]["detail"]
