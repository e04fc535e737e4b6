"""Chromium as Debian packages it, with the page opened as somebody new would open it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

REFUSED = "Failed to load resource"  # what Chromium writes of every answer that is an error


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window. The test is skipped where there is none."""
    path = shutil.which("chromium")
    if not path:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, port: int, **options: Any) -> Iterator[Page]:
    """The page, with its form there. Whatever it or its policy complains about on the console is a failure."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(20_000)
    said: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if not message.text.startswith(REFUSED):
            said.append(message.text)

    page.on("console", hear)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_selector("#age")
    yield page
    context.close()
    assert not said


def example(page: Page, name: str) -> None:
    """Load a made-up patient, and wait for the answer."""
    page.get_by_role("button", name=name, exact=True).click()
    settled(page)


def settled(page: Page) -> None:
    """The answer is that to what stands in the form."""
    page.wait_for_selector("#result:not([aria-busy]) .number")


def tab(page: Page, name: str) -> None:
    """Open a tab."""
    page.get_by_role("tab", name=name).click()
