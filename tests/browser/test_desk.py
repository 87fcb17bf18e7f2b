"""The coordinator's page in a browser: by keyboard, in light and dark, on a small screen, without JavaScript."""

import pytest
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from chromium import dress, narrow, overflow, unfold, violations
from cli.relay_api import NoAnswer, Refused
from relay_answers import UUID, refused, waiting

DECISION = "/submissions/loan_draft/L-1~2Fl/decision"
PAGES = (
    "/",
    "/?section=rejected",
    "/?section=drafts&kind=loan_draft&text=L-30",
    "/?text=nothing-has-this",
    "/loan",
    "/loan?id=L-1",
    "/submissions/loan_draft/L-1~2Fl",
    "/submissions/repayment/2026-10:L-11:100.00",
    DECISION,
)
MOST_STOPS = 200
"""Of the Tab key, until a test gives up."""


def press(browser, *keys):
    ActionChains(browser).send_keys(*keys).perform()


def active(browser):
    return browser.switch_to.active_element


def tab_to(browser, selector):
    """Go on with the Tab key until an element has the focus."""
    for _ in range(MOST_STOPS):
        if active(browser).parent and browser.execute_script(
            "return document.activeElement.matches(arguments[0])", selector
        ):
            return active(browser)
        press(browser, Keys.TAB)
    raise AssertionError(f"the Tab key does not come to {selector}")


def until(browser, true):
    between_two_pages = [StaleElementReferenceException, NoSuchElementException]
    return WebDriverWait(browser, 20, ignored_exceptions=between_two_pages).until(lambda _: true())


def status(browser):
    return browser.find_element(By.CSS_SELECTOR, "[role=status]").text


def is_open(browser):
    return browser.execute_script("return document.querySelector('dialog[open]') !== null")


# --- by keyboard ---


def test_a_decision_is_made_by_keyboard_alone(browser, desk, relay):
    browser.get(f"{desk}/?kind=loan_draft")
    tab_to(browser, "a[data-dialog]")
    press(browser, Keys.ENTER)
    assert is_open(browser)
    tab_to(browser, "dialog[open] [name=decision]")
    press(browser, Keys.SPACE)
    tab_to(browser, "dialog[open] [name=kiva_reference]")
    press(browser, UUID)
    tab_to(browser, "dialog[open] [name=reason]")
    press(browser, "found in PA2", Keys.ENTER)
    until(browser, lambda: "Decided: 1 now ACCEPTED." in status(browser))
    decided = {"decision": "accepted", "reason": "found in PA2", "kiva_reference": UUID}
    assert relay.posted == [(("submissions", "loan_draft", "L-1~2Fl", "decision"), decided)]
    assert "kind=loan_draft" in browser.current_url


def test_the_button_of_a_dialog_is_pressed_with_the_space_key_too(browser, desk):
    browser.get(desk)
    assert tab_to(browser, "a[data-dialog]").get_attribute("role") == "button"
    press(browser, Keys.SPACE)
    assert is_open(browser)


@pytest.mark.parametrize("leave", [Keys.ESCAPE, "Not now"])
def test_a_dialog_keeps_the_focus_and_gives_it_back(browser, desk, leave):
    browser.get(desk)
    opener = tab_to(browser, "a[data-dialog=decide-2]")
    press(browser, Keys.ENTER)
    for _ in range(20):
        press(browser, Keys.TAB)
        assert browser.execute_script("return document.activeElement.closest('dialog, body').matches('[open], body')")
        assert browser.execute_script(
            "return !document.activeElement.closest('main') || !!document.activeElement.closest('dialog')"
        )
    if leave == Keys.ESCAPE:
        press(browser, leave)
    else:
        tab_to(browser, "dialog[open] [data-close]")
        press(browser, Keys.ENTER)
    assert not is_open(browser)
    assert active(browser) == opener


def test_a_dialog_is_named_by_its_heading(browser, desk):
    browser.get(desk)
    browser.find_element(By.CSS_SELECTOR, "a[data-dialog=decide-2]").click()
    dialog = browser.find_element(By.CSS_SELECTOR, "dialog[open]")
    assert dialog.accessible_name == "Decide: Repayment L-2 and 6 more"
    assert dialog.aria_role == "dialog"


def test_every_stop_of_the_tab_key_is_seen(browser, desk):
    browser.get(desk)
    stops = set()
    for _ in range(60):
        press(browser, Keys.TAB)
        if active(browser).tag_name == "body":
            break
        stops.add(active(browser).id)
        assert active(browser).value_of_css_property("outline-style") == "solid"
        assert active(browser).value_of_css_property("outline-width") == "3px"
    assert len(stops) > 20


def test_the_first_stop_leads_past_what_every_page_begins_with(browser, desk):
    browser.get(desk)
    press(browser, Keys.TAB)
    assert active(browser).text == "Skip to the content"
    press(browser, Keys.ENTER)
    assert active(browser).get_attribute("id") == "main"


# --- what is done with a mouse ---


def test_kivas_reference_is_asked_for_only_when_kiva_has_it(browser, desk):
    browser.get(desk + DECISION)
    line = browser.find_element(By.NAME, "kiva_reference")
    assert not line.is_displayed()
    browser.find_element(By.CSS_SELECTOR, "[value=accepted]").click()
    assert line.is_displayed()


def test_the_browser_asks_for_a_choice_and_a_reason(browser, desk, relay):
    browser.get(desk + DECISION)
    browser.find_element(By.CSS_SELECTOR, "form.decision button").click()
    assert browser.current_url == desk + DECISION
    browser.find_element(By.CSS_SELECTOR, "[value=abandon]").click()
    browser.find_element(By.CSS_SELECTOR, "form.decision button").click()
    assert relay.posted == []


def test_an_error_is_shown_with_all_that_was_typed(chromium, desk, relay):
    relay.refuses = Refused(409, {"title": "It cannot be decided now", "detail": "its call may still be under way"})
    chromium.get(f"{desk}/?kind=loan_draft")
    chromium.find_element(By.CSS_SELECTOR, "a[data-dialog]").click()
    form = chromium.find_element(By.CSS_SELECTOR, "dialog[open] form")
    form.find_element(By.CSS_SELECTOR, "[value=send-again]").click()
    form.find_element(By.NAME, "reason").send_keys("not in PA2")
    form.find_element(By.CSS_SELECTOR, "button").click()
    until(chromium, lambda: "may still be under way" in chromium.find_element(By.CSS_SELECTOR, "[role=alert]").text)
    assert chromium.find_element(By.NAME, "reason").get_attribute("value") == "not in PA2"
    assert chromium.find_element(By.CSS_SELECTOR, "[value=send-again]").is_selected()


def test_a_filter_chooses_and_is_in_the_address(browser, desk):
    browser.get(desk)
    Select(browser.find_element(By.NAME, "section")).select_by_visible_text("Refused")
    browser.find_element(By.NAME, "text").send_keys("L-10")
    browser.find_element(By.CSS_SELECTOR, "form[role=search] button").click()
    until(browser, lambda: "section=rejected" in browser.current_url)
    assert "text=L-10" in browser.current_url
    assert len(browser.find_elements(By.CSS_SELECTOR, "tbody tr")) == 1


def test_one_tick_ticks_all_rows_of_a_table(browser, desk, relay):
    relay.waiting["rejected"] = [refused(number) for number in range(30)]
    browser.get(f"{desk}/?section=rejected")
    browser.find_element(By.CSS_SELECTOR, "[data-all]").click()
    browser.find_element(By.CSS_SELECTOR, "section button").click()
    until(browser, lambda: status(browser) == "30 taken off the list.")
    assert relay.waiting["rejected"] == []


def test_what_is_published_leaves_the_list(browser, desk, relay):
    relay.loans = [{"internal_loan_id": "L-30", "create_time": 1795600000}]
    browser.get(desk)
    browser.find_element(By.XPATH, "//button[text()='Look which are published']").click()
    until(browser, lambda: status(browser) == "1 of 2 drafts are published, and off the list.")


def test_the_table_of_problems_is_downloaded(browser, desk, downloads):
    browser.get(desk)
    browser.find_element(By.PARTIAL_LINK_TEXT, "Problems as a table").click()
    file = downloads / "kiva-problems-2026-11-25.csv"
    until(browser, file.exists)
    content = file.read_bytes()
    assert content.startswith(b'\xef\xbb\xbf"kind","reference"')
    assert content.count(b"\r\n") == 13


# --- without JavaScript ---


def test_without_javascript_a_decision_has_its_own_page(browser, desk, relay):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(desk)
    browser.find_element(By.CSS_SELECTOR, "a[data-dialog]").click()
    until(browser, lambda: browser.current_url == desk + DECISION)
    browser.find_element(By.CSS_SELECTOR, "[value=abandon]").click()
    browser.find_element(By.NAME, "reason").send_keys("given up")
    browser.find_element(By.CSS_SELECTOR, "form.decision button").click()
    until(browser, lambda: "Decided: 1 now ABANDONED." in status(browser))
    assert not browser.find_elements(By.CSS_SELECTOR, "[data-all]")[0].is_displayed()


# --- for everybody ---


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("environment", ["stage", "sandbox", "production"])
def test_every_page_is_for_everybody(browser, desk_at, relay, scheme, environment):
    desk = desk_at(KivaEnvironment=environment)
    dress(browser, scheme)
    for path in PAGES:
        browser.get(desk + path)
        unfold(browser)
        assert violations(browser) == [], path
    paper = browser.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 25, 29)"}[scheme]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_open_dialog_is_for_everybody(browser, desk_at, scheme):
    dress(browser, scheme)
    browser.get(desk_at(KivaEnvironment="production"))
    browser.find_element(By.CSS_SELECTOR, "a[data-dialog=decide-2]").click()
    browser.find_element(By.CSS_SELECTOR, "dialog[open] [value=accepted]").click()
    assert violations(browser) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_goes_wrong_is_told_to_everybody(chromium, desk, relay, scheme):
    dress(chromium, scheme)
    rule = {"field": "$.reason", "rule": "must be one line"}
    relay.refuses = Refused(400, {"title": "The message breaks a rule", "errors": [rule]})
    chromium.get(desk + DECISION)
    chromium.find_element(By.CSS_SELECTOR, "[value=abandon]").click()
    chromium.find_element(By.NAME, "reason").send_keys("no", Keys.ENTER)
    until(chromium, lambda: chromium.find_elements(By.CSS_SELECTOR, "[aria-invalid]"))
    assert violations(chromium) == []
    relay.fails = NoAnswer("The relay's API does not answer: ConnectTimeout. Trying again is safe.")
    chromium.get(desk)
    assert violations(chromium) == []


def test_at_320_pixels_no_page_scrolls_sideways(browser, desk_at):
    desk = desk_at(KivaEnvironment="production")
    narrow(browser, 320)
    for path in PAGES:
        browser.get(desk + path)
        unfold(browser)
        assert browser.execute_script("return innerWidth") == 320
        assert overflow(browser) == 0, path
    browser.get(desk)
    browser.find_element(By.CSS_SELECTOR, "a[data-dialog]").click()
    dialog = browser.find_element(By.CSS_SELECTOR, "dialog[open]")
    assert dialog.rect["width"] <= 320
    assert browser.execute_script("return arguments[0].scrollWidth <= arguments[0].clientWidth", dialog)


def test_with_text_of_twice_the_size_no_page_scrolls_sideways(browser, desk):
    for path in PAGES:
        browser.get(desk + path)
        browser.execute_script("document.documentElement.style.fontSize = '200%'")
        assert overflow(browser) == 0, path


def test_words_that_attack_a_browser_are_only_words(browser, desk, relay):
    attack = "\"'><img src=x onerror=document.title='taken'><script>document.title='taken'</script>"
    told = waiting()
    told["unknown"][0]["submissions"][0]["reason"] = attack
    told["unknown"][0]["look_for"] = attack
    told["rejected"][0]["reason"] = attack
    told["drafts"][0]["warnings"] = [attack]
    told["archives"][0]["confirm_url"] = f"https://kiva.org/{attack}"
    relay.waiting = told
    browser.get(desk)
    assert browser.title.startswith("What waits for a person")
    assert "onerror=document.title='taken'" in browser.find_element(By.ID, "main").text
