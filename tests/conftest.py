"""Fixtures that several packages' tests share, and which tests are slow."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

from service.app import create_app, with_middleware
from service.model.loading import load
from service.model.predictor import Predictor
from service.settings import Settings

if TYPE_CHECKING:
    from trainer.dataset import Dataset

TESTS = Path(__file__).parent
ROOT = TESTS.parent
MODELS = ROOT / "models/heart_disease"
CLEVELAND = ROOT / "trainer/data/cleveland.csv"

# Left out by --quick: these start services or browsers, load TensorFlow or Ray, or take seconds for each test.
SLOW = (
    *("deploy", "e2e", "faults", "fuzz", "gpu", "hostile", "trainer", "test_wheel.py", "service/cli", "service/client"),
    *("service/api/test_memory.py", "service/tables/test_damage.py"),
)
# These measure times or use up ports, descriptors or memory, so one worker runs them one after another.
SERIAL = ("faults", "hostile", "deploy/test_monitoring.py", "deploy/test_proxy.py", "e2e/test_slow_clients.py")


def is_in(path: Path, places: tuple[str, ...]) -> bool:
    return any(path.is_relative_to(TESTS / place) for place in places)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="leave out the slow tests, as listed in tests/conftest.py")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if config.getoption("quick") and is_in(collection_path, SLOW) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each file to one worker, because modules share a service, and start with what takes longest."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group("serial" if is_in(item.path, SERIAL) else str(item.path)))
    items.sort(key=lambda item: (not is_in(item.path, SERIAL), not is_in(item.path, SLOW)))


@pytest.fixture(scope="session", autouse=True)
def quick_loads_no_tensorflow(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a quick run that has loaded TensorFlow, which alone takes five seconds."""
    yield
    assert not request.config.getoption("quick") or "tensorflow" not in sys.modules


@pytest.fixture(scope="session")
def cleveland() -> "Dataset":
    """The 303 records."""
    from trainer.dataset import read

    return read(CLEVELAND)


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    """The committed model that serves."""
    return load(MODELS, "cpu")


@pytest.fixture(scope="session", params=["front", "fastapi"])
def client(predictor: Predictor, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """The app around the committed model, with the fast path for single records and without."""
    app = create_app(Settings(), predictor)
    with TestClient(with_middleware(app) if request.param == "front" else app, raise_server_exceptions=False) as client:
        yield client
