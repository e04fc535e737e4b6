"""What the fault tests share."""

import pytest

from service.model.execution import EXAMPLES
from service.model.predictor import Predictor


@pytest.fixture
def probability(predictor: Predictor) -> float:
    """Of the worked example."""
    return float(predictor(EXAMPLES[:1])[0])
