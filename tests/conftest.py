"""What several rooms' tests share: the data, a network fitted for real but briefly, and a running app."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.app import create_app, with_middleware
from service.model.predictor import Predictor, load
from service.settings import Settings
from trainer.dataset import Dataset, read
from trainer.fit import Fitted, fit
from trainer.recipe import Recipe

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "models/heart_disease"
CLEVELAND = ROOT / "trainer/data/cleveland.csv"


@pytest.fixture(scope="session")
def cleveland() -> Dataset:
    """The 303 records."""
    return read(CLEVELAND)


@pytest.fixture(scope="session")
def brief() -> Recipe:
    """The default network, trained for seconds."""
    return Recipe(epochs=20)


@pytest.fixture(scope="session")
def fitted(cleveland: Dataset, brief: Recipe) -> Fitted:
    """A network fitted on all records."""
    return fit(cleveland.rows, cleveland.target, brief)


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    """The committed model that serves."""
    return load(MODELS, "cpu")


@pytest.fixture(scope="session", params=["front", "fastapi"])
def client(predictor: Predictor, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """The app around the committed model, with its short way for single records and without."""
    app = create_app(Settings(), predictor)
    with TestClient(with_middleware(app) if request.param == "front" else app, raise_server_exceptions=False) as client:
        yield client
