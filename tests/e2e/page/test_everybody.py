"""The page is accessible, works on every screen, and stores nothing."""

import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, Route, expect

from patient.record import EXAMPLE
from tests.e2e.page.browser import example, fill, opened, settled, tab

NOTHING = {"local": 0, "session": 0, "caches": 0, "databases": 0, "cookies": "", "workers": 0, "state": None}


def stored(page: Page) -> Any:
    """What the page has stored in the browser."""
    return page.evaluate(
        """async () => ({
            local: localStorage.length, session: sessionStorage.length, caches: (await caches.keys()).length,
            databases: (await indexedDB.databases()).length, cookies: document.cookie,
            workers: (await navigator.serviceWorker.getRegistrations()).length, state: history.state,
        })"""
    )


def test_a_key_is_asked_for_sent_and_kept_in_memory_alone(page: Page) -> None:
    """The page asks again after a wrong key, and stores none."""

    def guarded(route: Route) -> None:
        if route.request.headers.get("x-api-key") == "right":
            route.continue_()
        else:
            detail = json.dumps({"status": 401, "detail": "Invalid or revoked API key."})
            route.fulfill(status=401, body=detail, content_type="application/problem+json")

    for path in ("model", "explain"):
        page.route(f"**/{path}", guarded)
    page.get_by_role("button", name="incomplete", exact=True).click()
    page.get_by_label("This service requires an API key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key-error")).to_have_text("Invalid or revoked API key.")
    page.get_by_label("This service requires an API key").fill("right")
    page.keyboard.press("Enter")
    settled(page)
    expect(page.locator("#key")).to_be_hidden()
    assert stored(page) == NOTHING


def test_everything_is_reached_by_keyboard(page: Page) -> None:
    """Arrow keys for tabs and radio buttons, Tab through the form, and the result without a click."""
    page.keyboard.press("Tab")
    expect(page.get_by_role("tab", name="One patient")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#table")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator("#file")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Home")
    for _ in range(6):  # past the five buttons
        page.keyboard.press("Tab")
    expect(page.locator("#age")).to_be_focused()
    page.keyboard.type("61")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")  # male
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")  # from "not known" to the last kind of chest pain
    settled(page)
    assert page.evaluate("new FormData(document.forms.form).get('sex')") == "1"
    assert page.evaluate("new FormData(document.forms.form).get('cp')") == "4"
    assert page.evaluate("getComputedStyle(document.activeElement.nextSibling).outlineStyle") == "solid"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    browser: Browser, port: int, scheme: str, width: int
) -> None:
    """With a result, with an error, with a file, and on the tab about the model."""
    with opened(
        browser, port, viewport={"width": width, "height": 740}, color_scheme=scheme, reduced_motion="reduce"
    ) as page:

        def check(where: str) -> None:
            found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
            assert not found, (where, [(one["id"], one["nodes"][0]["html"]) for one in found])
            assert page.evaluate("document.documentElement.scrollWidth") <= width, where

        page.evaluate(AXE_SCRIPT)
        example(page, "incomplete")
        check("result")
        page.fill("#chol", "1")
        expect(page.locator("#chol-error")).not_to_be_empty()
        check("error")
        tab(page, "Many patients")
        page.get_by_role("button", name="made-up patients").click()
        page.wait_for_selector("#rows a")
        check("file")
        tab(page, "The model")
        page.wait_for_selector("#card table")
        if width > 1000:  # a long one: once is enough
            check("about")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_mode_and_reduced_motion_are_respected(browser: Browser, port: int) -> None:
    """As the system's settings ask."""
    with opened(browser, port, color_scheme="dark", reduced_motion="reduce") as page:
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(int(part) for part in re.findall(r"\d+", ground)) < 64
        assert page.evaluate("getComputedStyle(document.getElementById('result')).transitionProperty") == "none"


def test_a_result_prints_on_one_page(page: Page) -> None:
    """Even the longest result: a patient with only age and sex."""
    page.fill("#age", "61")
    page.get_by_label("male", exact=True).check()
    settled(page)
    for name in ("A4", "Letter"):
        pdf = page.pdf(format=name)
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1, name


def test_no_patient_leaves_a_trace(page: Page, port: int) -> None:
    """Not in a URL, in the browser's storage, or in the form after a reload."""
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    fill(page, EXAMPLE)
    settled(page)
    tab(page, "Many patients")
    page.get_by_role("button", name="made-up patients").click()
    page.wait_for_selector("#rows a")
    assert stored(page) == NOTHING
    assert urlsplit(page.url).path == "/"
    assert not urlsplit(page.url).query
    assert {urlsplit(url).query for url in urls} <= {"", "on_error=report&keep=*"}
    assert {urlsplit(url).netloc for url in urls} == {f"127.0.0.1:{port}"}
    page.reload()
    page.wait_for_selector("#age")
    assert page.input_value("#age") == ""


def test_the_policy_stops_a_foreign_script(browser: Browser, port: int) -> None:
    """An injected script does not run, and nothing is sent to another host."""
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_selector("#age")
    ran = page.evaluate(
        """async () => {
            const script = document.createElement('script');
            script.textContent = 'window.foreign = true';
            document.body.append(script);
            const sent = await fetch('https://example.org/').then(() => true, () => false);
            return [window.foreign ?? false, sent];
        }"""
    )
    page.context.close()
    assert ran == [False, False]
