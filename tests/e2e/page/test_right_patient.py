"""The estimate shown is always that of the values shown, or there is none."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect

from patient.record import EXAMPLE, FIELDS, measurements
from tests.e2e.page.browser import ask, example, fill, opened, settled

EXAMPLES = ("low", "medium", "high", "incomplete")

# What the form shows: the texts of the inputs and the values of the checked radio buttons.
ENTERED = "Object.fromEntries([...new FormData(document.forms.form)].filter(([, value]) => value !== ''))"

# What the page shows as an answer: each place with the number, and the findings that it explains. Hidden ones are none.
SHOWN = """() => {
    const visible = (selector) => [...document.querySelectorAll(selector)].filter((one) => one.checkVisibility());
    const texts = (selector) => visible(selector).map((one) => one.textContent);
    const numbers = texts('.number strong, #spoken, #brief').filter((text) => /\\d\\s%/.test(text));
    return { numbers, findings: texts('.reasons tbody th') };
}"""

# Records everything that the page shows at any time, together with what the form shows at that time.
WATCH = f"""() => {{
    const seen = (window.seen = new Set());
    const look = () => {{
        const {{ numbers, findings }} = ({SHOWN})();
        if (numbers.length) seen.add(JSON.stringify([{ENTERED}, numbers, findings]));
    }};
    const everything = {{ subtree: true, childList: true, characterData: true, attributes: true }};
    new MutationObserver(look).observe(document.body, everything);
    for (const type of ['input', 'change']) window.addEventListener(type, look);
    const frame = () => {{ look(); requestAnimationFrame(frame); }};
    frame();
}}"""


def requests(page: Page) -> list[dict[str, Any]]:
    """The records that the page sends from now on."""
    sent: list[dict[str, Any]] = []

    def collect(request: Request) -> None:
        if request.post_data:
            sent.append(json.loads(request.post_data))

    page.on("request", collect)
    return sent


def paste(page: Page, selector: str, text: str) -> None:
    """Replace the content of an input by what the clipboard holds."""
    page.evaluate("(text) => navigator.clipboard.writeText(text)", text)
    page.locator(selector).select_text()
    page.keyboard.press("Control+V")


def type_in(page: Page, selector: str, text: str) -> None:
    """Replace the content of an input key by key."""
    page.fill(selector, "")
    page.locator(selector).press_sequentially(text)


def no_answer(page: Page) -> None:
    """Nothing is shown that could be taken for the answer to what the form shows now."""
    assert page.evaluate(SHOWN) == {"numbers": [], "findings": []}


@pytest.mark.parametrize("enter", [type_in, paste])
def test_comma_and_point_are_decimal_marks(
    browser: Browser, port: int, enter: Callable[[Page, str, str], None]
) -> None:
    """Typed or pasted: "0,5" is never 5."""
    with opened(browser, port, permissions=["clipboard-read", "clipboard-write"]) as page:
        example(page, "incomplete")
        sent = requests(page)
        for text, value in (("0,5", 0.5), ("0.5", 0.5), (",5", 0.5), (" 1,50 ", 1.5), ("-0,2", -0.2), ("3,", 3)):
            enter(page, "#oldpeak", text)
            settled(page)
            assert sent[-1]["oldpeak"] == value, text
            expect(page.locator("#oldpeak-error")).to_be_empty()


@pytest.mark.parametrize("enter", [type_in, paste])
def test_anything_else_is_an_error_of_its_field_and_is_not_sent(
    browser: Browser, port: int, enter: Callable[[Page, str, str], None]
) -> None:
    """The old estimate is gone, and the field says what it takes."""
    with opened(browser, port, permissions=["clipboard-read", "clipboard-write"]) as page:
        example(page, "high")
        sent = requests(page)
        for text in ("1,234.5", "1.234,5", "2,5,0", "1 000", "25o", "2e2", "0x90", "12 13", "١٢٠", "-", ",", "5,2"):
            error = "from 50 to 1000 mg/dl" if text == "5,2" else "one number, such as 1.5 or 1,5, without thousands"
            page.fill("#chol", "250")
            settled(page)
            sent.clear()
            enter(page, "#chol", text)
            expect(page.locator("#chol-error")).to_contain_text(f"Serum cholesterol must be {error}")
            expect(page.locator("#result")).to_have_text("Please correct the highlighted fields.")
            assert page.get_attribute("#chol", "aria-invalid") == "true"
            assert page.input_value("#chol") == text
            no_answer(page)
            assert all(record["chol"] is None for record in sent), text  # when it was empty before the first key
        page.fill("#chol", "250")
        settled(page)
        expect(page.locator("#chol-error")).to_be_empty()


def test_a_pasted_column_is_not_one_number(browser: Browser, port: int) -> None:
    """Two cells of a spreadsheet, one below the other, must not become 52."""
    with opened(browser, port, permissions=["clipboard-read", "clipboard-write"]) as page:
        example(page, "low")
        paste(page, "#age", "5\n2")
        expect(page.locator("#age-error")).to_contain_text("Age must be one number")
        no_answer(page)


@pytest.mark.parametrize("first", [*EXAMPLES, "by hand"])
def test_an_example_replaces_everything(page: Page, first: str) -> None:
    """After any other example, and after a patient entered by hand; `clear` leaves nothing."""
    sent = requests(page)
    records = page.evaluate("import('/web/examples.js').then((module) => module.EXAMPLES)")

    def enter() -> None:
        if first == "by hand":
            fill(page, EXAMPLE)
            settled(page)
        else:
            example(page, first)

    for second in EXAMPLES:
        enter()
        example(page, second)
        record = records[second]
        assert page.evaluate(ENTERED) == {name: str(value) for name, value in record.items()}, (first, second)
        assert sent[-1] == {name: record.get(name) for name in FIELDS}, (first, second)
    enter()
    page.get_by_role("button", name="clear", exact=True).click()
    assert page.evaluate(ENTERED) == {}
    no_answer(page)
    expect(page.locator("#result")).to_contain_text("Enter age and sex")


def never_answered(route: Route) -> None:
    """Hold a request for ever."""
    del route


CHANGES: dict[str, Callable[[Page], None]] = {
    "number": lambda page: page.fill("#thalach", "120"),
    "empty": lambda page: page.fill("#thalach", ""),
    "choice": lambda page: page.get_by_role("radiogroup", name="Sex").get_by_label("male", exact=True).check(),
    "example": lambda page: page.get_by_role("button", name="high", exact=True).click(),
    "clear": lambda page: page.get_by_role("button", name="clear", exact=True).click(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("width", [1280, 360])
def test_any_change_hides_the_old_estimate_at_once(browser: Browser, port: int, change: str, width: int) -> None:
    """On a phone also at the bottom of the screen, and for screen readers."""
    with opened(browser, port, viewport={"width": width, "height": 740}) as page:
        example(page, "low")
        assert len(page.evaluate(SHOWN)["numbers"]) == (3 if width == 360 else 2)
        page.route("**/explain", never_answered)
        CHANGES[change](page)
        no_answer(page)
        page.wait_for_timeout(500)
        no_answer(page)


def test_without_the_service_no_old_estimate_stays(page: Page) -> None:
    """The page says that it tries again, and shows the estimate when the service is back."""
    example(page, "low")
    page.route("**/explain", lambda route: route.abort("connectionrefused"))
    page.get_by_role("button", name="high", exact=True).click()
    expect(page.locator("#notice")).to_contain_text("does not answer. Trying again")
    no_answer(page)
    page.unroute("**/explain")
    settled(page)
    assert page.evaluate(SHOWN)["numbers"][0].startswith(("9", "over 99"))


class Interference:
    """Delays, fails and passes on requests, at random."""

    def __init__(self, page: Page, chance: random.Random) -> None:
        self.chance = chance
        self.held: list[Route] = []
        page.route("**/explain", self.handle)

    def handle(self, route: Route) -> None:
        match self.chance.choices(("pass", "hold", "refuse", "busy", "fail"), (6, 3, 1, 1, 1))[0]:
            case "pass":
                route.continue_()
            case "hold":
                self.held.append(route)
            case "refuse":
                route.abort("connectionrefused")
            case "busy":
                route.fulfill(status=503, body=json.dumps({"detail": "Busy."}))
            case "fail":
                route.fulfill(status=500, body=json.dumps({"detail": "Failed."}))

    def release(self) -> None:
        """Pass on what was held, the latest first."""
        while self.held:
            self.held.pop().continue_()


def act(page: Page, chance: random.Random) -> str:
    """Change the form as a person might, at random."""
    kind = chance.choices(("number", "choice", "example", "wrong", "clear"), (5, 4, 4, 1, 1))[0]
    if kind in ("number", "wrong"):
        field = chance.choice([one for one in measurements() if not one.codes])
        middle = {"age": 55, "oldpeak": 2}.get(field.name, 150)
        text = f"{middle + chance.uniform(-1, 30):.1f}" if field.name != "oldpeak" else f"{chance.uniform(0, 4):.1f}"
        if kind == "wrong":
            text = chance.choice(("", "1,2.3", "x", "9999", "-"))
        text = text.replace(".", chance.choice(".,"))
        if chance.random() < 0.5:
            page.fill(f"#{field.name}", text)
        else:
            type_in(page, f"#{field.name}", text)
        return f"{field.name}={text}"
    if kind == "choice":
        field = chance.choice([one for one in measurements() if one.codes])
        radios = page.get_by_role("radiogroup", name=field.title).get_by_role("radio")
        index = chance.randrange(radios.count())
        radios.nth(index).check()
        return f"{field.name}: {index}"
    name = chance.choice(EXAMPLES) if kind == "example" else "clear"
    page.get_by_role("button", name=name, exact=True).click()
    return name


@pytest.mark.parametrize("seed", range(2))
def test_after_any_sequence_the_estimate_belongs_to_the_form(browser: Browser, port: int, seed: int) -> None:
    """Random edits, examples and clears while answers come late or fail: each estimate is the service's answer."""
    chance = random.Random(seed)
    with opened(browser, port, viewport={"width": 360, "height": 740}) as page:
        interference = Interference(page, chance)
        page.evaluate(WATCH)
        steps = []
        for _ in range(60):
            steps.append(act(page, chance))
            page.wait_for_timeout(chance.choice((0, 100, 300, 450, 600)))
            if chance.random() < 0.4:
                interference.release()
        page.unroute("**/explain")
        interference.release()
        example(page, "medium")
        seen = [json.loads(one) for one in page.evaluate("[...window.seen]")]
    for entered, numbers, findings in seen:
        record = {name: number(entered[name]) if name in entered else None for name in FIELDS}
        expected = ask(port, "/explain", record)
        labels = [one["label"].replace(" not taken", " not known") for one in expected["contributions"]]
        assert findings == labels, (entered, steps)
        percent = f"{100 * expected['probability']:.0f}\u00a0%"
        assert all(percent in text or "under" in text or "over 99" in text for text in numbers), (entered, numbers)
    assert len({json.dumps(entered) for entered, _, _ in seen}) > 10


def number(text: str) -> float:
    return float(text.replace(",", "."))
