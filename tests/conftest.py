"""Fixtures that several packages' tests share, and which tests are slow."""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import httpx2 as httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.types import ASGIApp

from service.app import create_app, with_middleware
from service.model.loading import load
from service.model.predictor import Predictor
from service.server import configure
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

LONG = bool(os.environ.get("FAULTS_LONG"))  # set by make faults
OUTCOMES = pytest.StashKey[dict[str, list[str]]]()
Outcome = Callable[[str], None]


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


@pytest.fixture
def outcome(request: pytest.FixtureRequest) -> Outcome:
    """Takes a measurement in words, which `make faults` prints at its end, for docs/reliability.md."""
    return request.config.stash.setdefault(OUTCOMES, {}).setdefault(request.node.name, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """A line a measurement."""
    if LONG:
        terminalreporter.section("outcomes")
        for name, found in config.stash.get(OUTCOMES, {}).items():
            for line in found:
                terminalreporter.line(f"{name}: {line}")


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


@contextmanager
def served(app: FastAPI, asgi: ASGIApp | None = None) -> Iterator[httpx.Client]:
    """A client of the app as the service runs it, in a thread of this process, over a real socket.

    asgi: what Uvicorn calls; by default the app behind its middleware
    """
    config = configure(app.state.heart.settings, asgi or with_middleware(app))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=60) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session", params=["served", "app"])
def client(predictor: Predictor, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """The app around the committed model: as it is served, with the fast paths, and FastAPI's routes alone."""
    if request.param == "served":
        with served(create_app(Settings(drain=0), predictor)) as client:
            yield client
    else:
        with TestClient(create_app(Settings(), predictor), raise_server_exceptions=False) as client:
            yield client
