"""What came of each fault, in words: printed at the end of `make faults`, for docs/reliability.md."""

import os
from collections.abc import Callable

import pytest

from service.model.execution import EXAMPLES
from service.model.predictor import Predictor

LONG = bool(os.environ.get("FAULTS_LONG"))  # set by make faults

OUTCOMES = pytest.StashKey[dict[str, list[str]]]()
Outcome = Callable[[str], None]


@pytest.fixture
def outcome(request: pytest.FixtureRequest) -> Outcome:
    """Says what was measured in this test."""
    return request.config.stash.setdefault(OUTCOMES, {}).setdefault(request.node.name, []).append


@pytest.fixture
def probability(predictor: Predictor) -> float:
    """Of the worked example."""
    return float(predictor(EXAMPLES[:1])[0])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """A line a measurement."""
    if LONG:
        terminalreporter.section("outcomes")
        for name, found in config.stash.get(OUTCOMES, {}).items():
            for line in found:
                terminalreporter.line(f"{name}: {line}")
