"""The page at /, used in a browser as people use it."""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, Route, expect

from patient.record import EXAMPLE, FIELDS, measurements
from tests.e2e.browser import chromium, example, opened, settled, tab
from tests.e2e.serving import serving
from trainer.dataset import Dataset

GAPS = ["fbs", "slope", "ca", "thal"]  # what the made-up patient "with gaps" lacks


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """One service for all."""
    with serving() as (number, _):
        yield number


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all; each test has a fresh profile of its own."""
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser, port: int) -> Iterator[Page]:
    """The page, just opened."""
    with opened(browser, port) as fresh:
        yield fresh


def ask(port: int, path: str, body: object) -> Any:
    """What the service answers to JSON."""
    return json.loads(post(port, path, json.dumps(body).encode(), "application/json"))


def post(port: int, path: str, body: bytes, kind: str) -> bytes:
    """What the service answers, as bytes; text where it has the choice."""
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
            words = "not taken" if value is None else field.codes[value]
            group = page.get_by_role("radiogroup", name=field.title)
            group.get_by_label(words, exact=True).check()
        else:
            page.get_by_label(field.title, exact=True).fill("" if value is None else str(value))


def test_a_patient_entered_by_hand_is_answered_with_reasons(page: Page, port: int) -> None:
    """The number is the service's, and so are the reasons, the weightiest first; together they are the answer."""
    record = EXAMPLE | {"ca": None, "thal": 7}
    fill(page, record)
    settled(page)
    told = ask(port, "/explain", record)
    expect(page.locator(".number strong")).to_have_text(f"{100 * told['probability']:.0f}\u00a0%")
    side = "at or above" if told["heart_disease"] else "below"
    expect(page.locator("#spoken")).to_contain_text(f"{side} the threshold of 50")
    reasons = rows(page, "What speaks for it and against it")
    assert [label for label, *_ in reasons] == [one["label"] for one in told["contributions"]]
    for (_, _, words), one in zip(reasons, told["contributions"], strict=True):
        assert words.startswith(("hardly", "for" if one["contribution"] > 0 else "against"))
    expect(page.locator("#version")).to_have_text(told["model_version"])


def test_the_made_up_patients_are_what_they_are_called(page: Page) -> None:
    """Low, middle and high, and one of whom little is known; `clear` takes all away again."""
    for name, low, high in (("low", 0, 10), ("middle", 30, 70), ("high", 90, 100), ("with gaps", 10, 90)):
        example(page, name)
        assert low <= percent(page) <= high, name
    page.get_by_role("button", name="clear", exact=True).click()
    expect(page.locator("#result")).to_contain_text("Enter age and sex")
    assert page.input_value("#age") == ""


def test_what_is_missing_is_told_with_what_it_could_change(page: Page, port: int) -> None:
    """Between which probabilities each gap leaves the answer open, as the service answers with the gap filled."""
    example(page, "with gaps")
    shown = {title: (answer, verdict) for title, answer, verdict in rows(page, "What is missing")}
    by_name = {field.name: field for field in measurements()}
    record = page.evaluate("import('/web/examples.js').then((module) => module.EXAMPLES['with gaps'])")
    assert [*shown] == [by_name[name].said(None) for name in GAPS]
    for name in GAPS:
        whole = {field: record.get(field) for field in FIELDS}
        tried = [whole | {name: code} for code in by_name[name].codes]
        found = [one["probability"] for one in ask(port, "/predict/batch", tried)["predictions"]]
        answer, verdict = shown[by_name[name].said(None)]
        assert answer == f"{100 * min(found):.0f} % to {100 * max(found):.0f} %"
        assert (verdict == "could turn it") == (min(found) < 0.5 <= max(found))


def test_an_error_stands_beside_its_field_and_goes_with_it(page: Page) -> None:
    """It is tied to the input for screen readers, and the old answer is not left standing."""
    example(page, "low")
    page.fill("#chol", "9999")
    error = page.locator("#chol-error")
    expect(error).to_contain_text("Serum cholesterol must be a number from 50 to 1000 mg/dl")
    assert page.get_attribute("#chol", "aria-invalid") == "true"
    assert "chol-error" in str(page.get_attribute("#chol", "aria-describedby"))
    expect(page.locator(".number")).to_have_count(0)
    page.fill("#chol", "")
    settled(page)
    expect(error).to_be_empty()
    assert page.get_attribute("#chol", "aria-invalid") is None


def test_what_is_no_number_is_an_error_and_not_a_gap(page: Page) -> None:
    """A browser hands out such an input as empty; silently it would count as not taken."""
    example(page, "low")
    page.fill("#oldpeak", "")
    page.locator("#oldpeak").press_sequentially("1e")
    expect(page.locator("#oldpeak-error")).to_contain_text("must be a number")


def test_a_late_answer_to_an_old_question_is_never_shown(page: Page) -> None:
    """The first answer is held back until the second is there."""
    held: list[Route] = []
    page.route("**/explain", lambda route: held.append(route) if not held else route.continue_())
    page.get_by_role("button", name="high", exact=True).click()
    while not held:
        page.wait_for_timeout(20)
    example(page, "low")
    held[0].continue_()
    page.wait_for_timeout(300)
    assert percent(page) < 10


def test_a_service_that_is_away_is_told_and_asked_again(page: Page) -> None:
    """Until it answers; no old number stands as if it were the answer."""
    example(page, "low")
    page.route("**/explain", lambda route: route.abort("connectionrefused"), times=1)
    page.get_by_role("button", name="high", exact=True).click()
    expect(page.locator("#notice")).to_contain_text("does not answer. Trying again")
    assert page.get_attribute("#result", "aria-busy") == "true"
    settled(page)
    assert percent(page) > 90
    expect(page.locator("#notice")).to_be_hidden()


def test_a_model_without_background_is_answered_without_reasons(page: Page) -> None:
    """409 from /explain is no error to the user."""
    gone = json.dumps({"status": 409, "detail": "no background"})
    page.route("**/explain", lambda route: route.fulfill(status=409, body=gone))
    example(page, "high")
    assert percent(page) > 90
    expect(page.locator("#result")).to_contain_text("nothing to explain")


def test_a_key_is_asked_for_sent_and_kept_in_memory_alone(page: Page) -> None:
    """A wrong one is asked for again; after a reload there is none."""

    def guarded(route: Route) -> None:
        if route.request.headers.get("x-api-key") == "right":
            route.continue_()
        else:
            detail = json.dumps({"status": 401, "detail": "This key is not good."})
            route.fulfill(status=401, body=detail, content_type="application/problem+json")

    for path in ("model", "explain"):
        page.route(f"**/{path}", guarded)
    page.get_by_role("button", name="with gaps", exact=True).click()
    page.get_by_label("This service asks for a key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key-error")).to_have_text("This key is not good.")
    page.get_by_label("This service asks for a key").fill("right")
    page.keyboard.press("Enter")
    settled(page)
    expect(page.locator("#key")).to_be_hidden()
    assert stored(page) == NOTHING


def table(cleveland: Dataset, count: int) -> pa.Table:
    """Patients of the data set over and over, with a column of their own."""
    places = np.arange(count) % len(cleveland.rows)
    columns = zip(FIELDS, cleveland.rows[places].T.astype(np.float64), strict=True)
    named = {"mrn": pa.array([f"patient {i}" for i in range(count)])}
    return pa.table(named | {name: pa.array(column, from_pandas=True) for name, column in columns})


def score(page: Page, file: Path) -> None:
    """Choose a file on its tab."""
    tab(page, "Many patients")
    page.set_input_files("#file", file)


def downloaded(page: Page) -> tuple[str, bytes]:
    """Name and content of what is offered when a file is done."""
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def test_a_csv_comes_back_as_the_service_answers_it(page: Page, port: int, cleveland: Dataset, tmp_path: Path) -> None:
    """Though the page sends it in parts: byte for byte, with notes, quotes, line ends in cells, and bad rows."""
    count = 40_000
    lines = [
        ",".join("" if cell is None else str(cell) for cell in row.values())
        for row in table(cleveland, count).to_pylist()
    ]
    for place in range(0, count, 997):
        lines[place] = f'"said ""{place}"",\r\nand more"' + lines[place][lines[place].index(",") :]
    lines[3] = lines[3].replace(",", ",old,", 1)
    bad = [3, 777, 39_999]
    lines[777] = "p," + ",".join(["1e9"] * 13)
    lines[39_999] = lines[39_999].replace(",", ",17", 1)
    text = "\ufeff# a note\r\n" + "\r\n".join([",".join(["mrn", *FIELDS]), *lines]) + "\r\n\r\n"
    (tmp_path / "ward.csv").write_bytes(text.encode())
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    score(page, tmp_path / "ward.csv")
    name, content = downloaded(page)
    assert len([url for url in requests if "batch" in url]) > 2
    assert name == "ward-scored.csv"
    assert content == post(port, "/predict/batch?on_error=report&keep=*", text.encode(), "text/csv")
    expect(page.locator("#rows")).to_contain_text("39,997 patients scored.")
    assert [int(row) for row, _ in rows(page, "Bad rows")] == [place + 1 for place in bad]
    assert "cells" in rows(page, "Bad rows")[0][1]
    assert len(rows(page, "The first 20 rows")) == 20
    assert sum(int(n.replace(",", "")) for _, n in rows(page, "Patients by probability")) == count - len(bad)


def test_parquet_is_scored_too(page: Page, port: int, cleveland: Dataset, tmp_path: Path) -> None:
    """As a whole; the answers come as CSV."""
    pyarrow.parquet.write_table(table(cleveland, 30_000), tmp_path / "ward.parquet")
    score(page, tmp_path / "ward.parquet")
    _, content = downloaded(page)
    body = (tmp_path / "ward.parquet").read_bytes()
    assert content == post(port, "/predict/batch?on_error=report&keep=*", body, "application/vnd.apache.parquet")
    expect(page.locator("#rows")).to_contain_text("30,000 patients scored.")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no header"),
        (b"age,sex\n63,1\n", "is missing"),
        (",".join(FIELDS).encode() + b"\n", "empty"),
        (b"\xff\xfe\x00", "neither Parquet nor text"),
        (b"PAR1 but not really", "Parquet"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_words(page: Page, tmp_path: Path, content: bytes, said: str) -> None:
    """And nothing is offered for download."""
    (tmp_path / "odd.csv").write_bytes(content)
    score(page, tmp_path / "odd.csv")
    expect(page.locator("#file-error")).to_contain_text(said)
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.get_by_role("link", name="Download")).to_have_count(0)


def test_a_file_can_be_dropped_wherever_the_page_is(page: Page) -> None:
    """The browser does not go there, and the tab for files opens."""
    page.evaluate(
        """(header) => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([`${header}\n63,1${','.repeat(11)}\n`], 'one.csv'));
            const drop = new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true });
            document.getElementById('form').dispatchEvent(drop);
        }""",
        ",".join(FIELDS),
    )
    expect(page.locator("#rows")).to_contain_text("1 patient")
    assert downloaded(page)[0] == "one-scored.csv"


def test_a_file_can_be_cancelled_and_another_begun(page: Page) -> None:
    """The service is left in peace, and the next file is whole."""
    tab(page, "Many patients")
    page.route("**/predict/batch*", lambda _route: None, times=1)  # never answered
    page.get_by_role("button", name="made-up patients").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#file-error")).to_have_text("Cancelled.")
    page.get_by_role("button", name="made-up patients").click()
    assert len(downloaded(page)[1].splitlines()) == 5


def test_everything_is_reached_by_keyboard(page: Page) -> None:
    """Tabs by arrows, the form in its order, radio buttons by arrows, and the answer without a click."""
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
    page.keyboard.press("ArrowLeft")  # from "not taken" to the last kind of chest pain
    settled(page)
    assert page.evaluate("new FormData(document.forms.form).get('sex')") == "1"
    assert page.evaluate("new FormData(document.forms.form).get('cp')") == "4"
    assert page.evaluate("getComputedStyle(document.activeElement.nextSibling).outlineStyle") == "solid"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    browser: Browser, port: int, scheme: str, width: int
) -> None:
    """With an answer, with an error, with a file, and on the page about the model."""
    with opened(
        browser, port, viewport={"width": width, "height": 740}, color_scheme=scheme, reduced_motion="reduce"
    ) as page:

        def check(where: str) -> None:
            found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
            assert not found, (where, [(one["id"], one["nodes"][0]["html"]) for one in found])
            assert page.evaluate("document.documentElement.scrollWidth") <= width, where

        page.evaluate(AXE_SCRIPT)
        example(page, "with gaps")
        check("answer")
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


def test_a_dark_screen_stays_dark_and_nothing_moves_for_who_asks_so(browser: Browser, port: int) -> None:
    """As the system says."""
    with opened(browser, port, color_scheme="dark", reduced_motion="reduce") as page:
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(int(part) for part in re.findall(r"\d+", ground)) < 64
        assert page.evaluate("getComputedStyle(document.getElementById('result')).transitionProperty") == "none"


def test_an_answer_prints_on_one_page(page: Page) -> None:
    """The longest too: of somebody of whom nothing is known but age and sex."""
    page.fill("#age", "61")
    page.get_by_label("male", exact=True).check()
    settled(page)
    for name in ("A4", "Letter"):
        pdf = page.pdf(format=name)
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1, name


NOTHING = {"local": 0, "session": 0, "caches": 0, "databases": 0, "cookies": "", "workers": 0, "state": None}


def stored(page: Page) -> Any:
    """What the page has left behind in the browser."""
    return page.evaluate(
        """async () => ({
            local: localStorage.length, session: sessionStorage.length, caches: (await caches.keys()).length,
            databases: (await indexedDB.databases()).length, cookies: document.cookie,
            workers: (await navigator.serviceWorker.getRegistrations()).length, state: history.state,
        })"""
    )


def test_no_patient_leaves_a_trace(page: Page, port: int) -> None:
    """Neither in an address, nor in the browser's storage, nor in the form once the page is opened again."""
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
    """Written into the page or fetched from elsewhere: it does not run, and nothing is sent elsewhere."""
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


def test_the_model_card_and_the_words_for_clinicians_are_a_click_away(page: Page) -> None:
    """From the answer itself; the card is that of the version that answered."""
    example(page, "high")
    page.get_by_role("button", name="What it means").click()
    expect(page.locator("#clinicians h2")).to_contain_text("For clinicians")
    expect(page.locator("#card h2").first).to_have_text("Heart disease, version 3")
    assert "|" not in page.inner_text("#card table >> nth=0")
    assert "**" not in page.inner_text("#about")
