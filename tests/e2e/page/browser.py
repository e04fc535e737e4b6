"""Drive the web page with Debian's Chromium."""

import json
import re
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from patient.record import measurements

ERROR_RESPONSE = "Failed to load resource"  # Chromium logs this for every error response


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser. Skips the test where Chromium is not installed."""
    path = shutil.which("chromium")
    if not path:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, port: int, path: str = "/", **options: Any) -> Iterator[Page]:
    """The page, with its form loaded. Any other message on the console fails the test."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(20_000)
    messages: list[str] = []

    def collect(message: ConsoleMessage) -> None:
        if not message.text.startswith(ERROR_RESPONSE):
            messages.append(message.text)

    page.on("console", collect)
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(f"http://127.0.0.1:{port}{path}")
    page.wait_for_selector("#age")
    yield page
    context.close()
    assert not messages


def example(page: Page, name: str) -> None:
    """Load a made-up patient, and wait for the result."""
    page.get_by_role("button", name=name, exact=True).click()
    settled(page)


def settled(page: Page) -> None:
    """Wait until the result belongs to the content of the form."""
    page.wait_for_selector("#result:not([aria-busy]) .number")


def tab(page: Page, name: str) -> None:
    """Open a tab."""
    page.get_by_role("tab", name=name).click()


def ask(port: int, path: str, body: object) -> Any:
    """The service's response to a JSON request."""
    return json.loads(post(port, path, json.dumps(body).encode(), "application/json"))


def post(port: int, path: str, body: bytes, kind: str) -> bytes:
    """The service's response as bytes; CSV for tables."""
    accept = "text/csv" if kind != "application/json" else kind
    headers = {"Content-Type": kind, "Accept": accept}
    with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)) as answer:
        content: bytes = answer.read()
        return content


def percent(page: Page) -> float:
    """The probability that the page shows, 0 to 100."""
    found = re.search(r"[\d.]+", page.inner_text(".number strong"))
    assert found
    return float(found[0])


def rows(page: Page, heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    cells: list[list[str]] = page.evaluate(
        """(heading) => {
            let node = [...document.querySelectorAll('h3, caption')].find((one) => one.textContent === heading);
            node = node.closest('table') ?? node;
            while (!node.matches('table') && !node.querySelector('table')) node = node.nextElementSibling;
            return [...(node.closest('table') ?? node.querySelector('table')).tBodies[0].rows]
                .map((row) => [...row.cells].map((cell) => cell.textContent.replaceAll('\\u00a0', ' ')));
        }""",
        heading,
    )
    return cells


def fill(page: Page, record: dict[str, Any]) -> None:
    """Enter a record by hand."""
    for field in measurements():
        value = record[field.name]
        if field.codes:
            words = "not known" if value is None else field.codes[value]
            group = page.get_by_role("radiogroup", name=field.title)
            group.get_by_label(words, exact=True).check()
        else:
            page.get_by_label(field.title, exact=True).fill("" if value is None else str(value))
