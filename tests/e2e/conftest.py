"""A service that the modules share."""

from collections.abc import Iterator

import pytest

from tests.e2e.serving import serving


@pytest.fixture(scope="session")
def port() -> Iterator[int]:
    """The port of a service with its default settings; for tests that neither count requests nor change its model."""
    with serving("--log-level", "error") as (number, _):
        yield number
