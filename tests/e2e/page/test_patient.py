"""One patient, entered as people enter them."""

import json

from playwright.sync_api import Page, Route, expect

from patient.record import EXAMPLE, FIELDS, measurements
from tests.e2e.page.browser import ask, example, fill, percent, rows, settled

GAPS = ["fbs", "slope", "ca", "thal"]  # what the made-up patient "with gaps" lacks


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
    assert [*shown] == [by_name[name].describe(None) for name in GAPS]
    for name in GAPS:
        whole = {field: record.get(field) for field in FIELDS}
        tried = [whole | {name: code} for code in by_name[name].codes]
        found = [one["probability"] for one in ask(port, "/predict/batch", tried)["predictions"]]
        answer, verdict = shown[by_name[name].describe(None)]
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


def test_the_model_card_and_the_words_for_clinicians_are_a_click_away(page: Page) -> None:
    """From the answer itself; the card is that of the version that answered."""
    example(page, "high")
    page.get_by_role("button", name="What it means").click()
    expect(page.locator("#clinicians h2")).to_contain_text("For clinicians")
    expect(page.locator("#card h2").first).to_have_text("Heart disease, version 3")
    assert "|" not in page.inner_text("#card table >> nth=0")
    assert "**" not in page.inner_text("#about")
