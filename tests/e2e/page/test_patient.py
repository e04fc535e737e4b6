"""One patient, entered in the form."""

import json

from playwright.sync_api import Page, Route, expect

from patient.record import EXAMPLE, FIELDS, measurements
from tests.e2e.page.browser import ask, example, fill, percent, rows, settled

GAPS = ["fbs", "slope", "ca", "thal"]  # missing in the made-up patient "incomplete"


def test_a_patient_entered_by_hand_gets_a_probability_and_an_explanation(page: Page, port: int) -> None:
    """Probability and contributions are the service's, the largest contribution first."""
    record = EXAMPLE | {"ca": None, "thal": 7}
    fill(page, record)
    settled(page)
    expected = ask(port, "/explain", record)
    expect(page.locator(".number strong")).to_have_text(f"{100 * expected['probability']:.0f}\u00a0%")
    side = "at or above" if expected["heart_disease"] else "below"
    expect(page.locator("#spoken")).to_contain_text(f"{side} the threshold of 50")
    reasons = rows(page, "What raises and what lowers this estimate")
    labels = [one["label"].replace(" not taken", " not known") for one in expected["contributions"]]
    assert [label for label, *_ in reasons] == labels
    for (_, _, words), one in zip(reasons, expected["contributions"], strict=True):
        assert words.startswith(("almost", "raises" if one["contribution"] > 0 else "lowers"))
    expect(page.locator("#version")).to_have_text(expected["model_version"])


def test_the_made_up_patients_match_their_names(page: Page) -> None:
    """Low, medium, high and incomplete; `clear` empties the form."""
    for name, low, high in (("low", 0, 10), ("medium", 30, 70), ("high", 90, 100), ("incomplete", 10, 90)):
        example(page, name)
        assert low <= percent(page) <= high, name
    page.get_by_role("button", name="clear", exact=True).click()
    expect(page.locator("#result")).to_contain_text("Enter age and sex")
    assert page.input_value("#age") == ""


def test_missing_measurements_are_listed_with_the_range_they_leave_open(page: Page, port: int) -> None:
    """The range equals the service's probabilities over all values of the missing measurement."""
    example(page, "incomplete")
    shown = {title: (answer, verdict) for title, answer, verdict in rows(page, "What is missing")}
    by_name = {field.name: field for field in measurements()}
    record = page.evaluate("import('/web/examples.js').then((module) => module.EXAMPLES.incomplete)")
    labels = {name: f"{by_name[name].title} not known" for name in GAPS}
    assert [*shown] == [*labels.values()]
    for name in GAPS:
        whole = {field: record.get(field) for field in FIELDS}
        tried = [whole | {name: code} for code in by_name[name].codes]
        found = [one["probability"] for one in ask(port, "/predict/batch", tried)["predictions"]]
        answer, verdict = shown[labels[name]]
        assert answer == f"{100 * min(found):.0f} % to {100 * max(found):.0f} %"
        assert (verdict == "possible") == (min(found) < 0.5 <= max(found))


def test_changes_across_the_threshold_are_listed_with_their_estimates(page: Page, port: int) -> None:
    """Without a sentence that sounds like a diagnosis."""
    example(page, "incomplete")
    record = page.evaluate("import('/web/examples.js').then((module) => module.EXAMPLES.incomplete)")
    changes = ask(port, "/explain", {field: record.get(field) for field in FIELDS})["changes"]
    crossing = [one for one in changes if one["to"] is not None and one["feature"] not in GAPS]
    shown = page.locator("#result li").all_inner_texts()
    assert len(shown) == len(crossing) > 0
    for text, one in zip(shown, crossing, strict=True):
        finding, estimate = text.rsplit(": ", 1)
        assert one["label"].startswith(f"{finding}. The model")
        assert abs(float(estimate.split()[0]) - 100 * one["probability"]) <= 0.5


def test_chest_pain_0_is_listed_as_missing(page: Page, port: int) -> None:
    """The form does not offer the code, but the page shows what the service answers."""
    result = ask(port, "/explain", EXAMPLE | {"cp": 0})
    titles = page.evaluate(
        """async (result) => {
            const { renderAnswer } = await import('/web/answer.js');
            const tables = renderAnswer(result, await (await fetch('/model')).json());
            const start = tables.findIndex((element) => element.textContent === 'What is missing');
            return [...tables[start + 2].querySelectorAll('tbody tr')].map((row) => row.firstChild.textContent);
        }""",
        result,
    )
    assert titles == ["Chest pain type: unspecified; asymptomatic is 4"]


def test_an_error_is_shown_beside_its_field_until_it_is_corrected(page: Page) -> None:
    """It is linked to the input for screen readers, and the old result is removed."""
    example(page, "low")
    page.fill("#chol", "9999")
    error = page.locator("#chol-error")
    expect(error).to_contain_text("Serum cholesterol must be from 50 to 1000 mg/dl; leave it blank")
    assert page.get_attribute("#chol", "aria-invalid") == "true"
    assert "chol-error" in str(page.get_attribute("#chol", "aria-describedby"))
    expect(page.locator(".number")).to_have_count(0)
    page.fill("#chol", "")
    settled(page)
    expect(error).to_be_empty()
    assert page.get_attribute("#chol", "aria-invalid") is None


def test_an_error_of_the_service_is_shown_beside_its_field(page: Page) -> None:
    """Should the service's rules be stricter than those of the form."""
    errors = [{"pointer": "/oldpeak", "detail": "ST depression must be small; null if it was not taken"}]
    body = json.dumps({"status": 422, "detail": "Invalid patient record.", "errors": errors})
    page.route("**/explain", lambda route: route.fulfill(status=422, body=body))
    page.get_by_role("button", name="low", exact=True).click()
    message = "ST depression must be small; leave it blank if you do not know it"
    expect(page.locator("#oldpeak-error")).to_have_text(message)
    expect(page.locator("#result")).to_have_text("Please correct the highlighted fields.")


def test_a_late_response_to_an_old_request_is_never_shown(page: Page) -> None:
    """The first response is delayed until the second has arrived."""
    held: list[Route] = []
    page.route("**/explain", lambda route: held.append(route) if not held else route.continue_())
    page.get_by_role("button", name="high", exact=True).click()
    while not held:
        page.wait_for_timeout(20)
    example(page, "low")
    held[0].continue_()
    page.wait_for_timeout(300)
    assert percent(page) < 10


def test_an_unavailable_service_is_reported_and_retried(page: Page) -> None:
    """Until it responds; the old number is not shown as current."""
    example(page, "low")
    page.route("**/explain", lambda route: route.abort("connectionrefused"), times=1)
    page.get_by_role("button", name="high", exact=True).click()
    expect(page.locator("#notice")).to_contain_text("does not answer. Trying again")
    assert page.get_attribute("#result", "aria-busy") == "true"
    settled(page)
    assert percent(page) > 90
    expect(page.locator("#notice")).to_be_hidden()


def test_a_model_without_background_gives_a_result_without_explanation(page: Page) -> None:
    """409 from /explain is not shown as an error."""
    gone = json.dumps({"status": 409, "detail": "no background"})
    page.route("**/explain", lambda route: route.fulfill(status=409, body=gone))
    example(page, "high")
    assert percent(page) > 90
    expect(page.locator("#result")).to_contain_text("cannot explain")


def test_the_model_card_and_the_text_for_clinicians_are_one_click_away(page: Page) -> None:
    """From the result; the card is that of the model version used."""
    example(page, "high")
    page.get_by_role("button", name="What it means").click()
    expect(page.locator("#clinicians h2")).to_contain_text("For clinicians")
    expect(page.locator("#card h2").first).to_have_text("Heart disease, version 3")
    assert "|" not in page.inner_text("#card table >> nth=0")
    assert "**" not in page.inner_text("#about")
