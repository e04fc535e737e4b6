"""The page in a browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.page.browser import chromium, opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for each module, because Playwright's event loop runs as long as it is open."""
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser, port: int) -> Iterator[Page]:
    """The page, just opened, in a new profile."""
    with opened(browser, port) as fresh:
        yield fresh
