"""The page in a browser, and the service behind it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.page.browser import chromium, opened
from tests.e2e.serving import serving


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """One service for all tests of a module."""
    with serving() as (number, _):
        yield number


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of a module; each test has a fresh profile."""
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser, port: int) -> Iterator[Page]:
    """The page, freshly opened."""
    with opened(browser, port) as fresh:
        yield fresh
