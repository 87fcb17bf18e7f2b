"""The imitation of PA2 in a browser: what Kiva sees, and what a person does about it, by clicking."""

from contextlib import closing
from datetime import UTC, datetime

import pytest
from selenium.webdriver.common.by import By

from chromium import dress, go, narrow, overflow, unfold, violations
from kiva_sandbox.app import create_app
from kiva_sandbox.bodies import Draft, Repayments
from kiva_sandbox.data import Partner, portfolio
from kiva_sandbox.state import State
from kiva_sandbox.tokens import Tokens, new_signing_key

DRAFT = {
    "currency": "KES",
    "description": "<script>document.title = 'taken over'</script>",
    "entreps": [{"loan_id": "L-1", "client_id": "C-1", "first_name": "Akinyi", "amount": 60000}],
    "schedule": [{"date": "2026-12-25", "principal": 60000}],
    "image_encoded": "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7",
}
NUMBERS = range(70_001, 70_251)
JOURNALS = [{"internal_loan_id": f"L-{number}-1", "subject": f"Visit {number}", "body": "Well."} for number in NUMBERS]
REPAYMENTS = {"repayments": [{"loan_id": f"L-{number}-1", "amount": 1250.5} for number in NUMBERS]}
PAGES = (
    "/", "/drafts", "/journals", "/journals/confirm/48001", "/repayments", "/repayments/90001", "/loans", "/switches",
)  # fmt: skip


def now():
    return datetime(2026, 11, 25, 8, tzinfo=UTC)


@pytest.fixture(scope="module")
def signing_key():
    return new_signing_key()


@pytest.fixture
def state():
    """What one of each kind has left, each with something wrong."""
    with closing(State(portfolio(1500), now)) as state:
        state.add_draft(DRAFT, Draft.model_validate(DRAFT))
        state.add_journals(JOURNALS)
        state.add_upload(Repayments.model_validate(REPAYMENTS))
        yield state


@pytest.fixture
def pa2(serve, state, signing_key):
    """The address of the pages."""
    return f"{serve(create_app(state, Tokens(Partner(), signing_key, now)))}/pa2"


@pytest.fixture
def draft(pa2, state):
    """The address of the draft's page."""
    return f"{pa2}/drafts/{state.drafts()[0]['loan_draft_uuid']}"


def click(browser, selector):
    browser.find_element(By.CSS_SELECTOR, selector).click()


def follow(browser, selector):
    go(browser, browser.find_element(By.CSS_SELECTOR, selector))


def said(browser):
    return browser.find_element(By.TAG_NAME, "main").text


def test_a_draft_is_found_ticked_as_completed_and_published(browser, pa2, draft, state):
    browser.get(f"{pa2}/")
    follow(browser, ".counts a[href$=drafts]")
    follow(browser, f"a[href='/pa2/drafts/{draft.rpartition('/')[2]}']")
    click(browser, "main form button")
    assert state.drafts()[0]["published"] is False  # the browser itself insists on the tick
    click(browser, "[name=completed]")
    follow(browser, "main form button")
    assert "Published. It is loan 2991501 at Kiva" in said(browser)
    assert browser.current_url == draft
    follow(browser, "main .status a")
    assert "1 found" in said(browser)
    assert state.loans()[-1]["internal_loan_id"] == "L-1"


def test_an_archive_is_confirmed_where_confirm_url_leads(browser, pa2, state):
    browser.get(f"{pa2}/journals/confirm/48001")
    follow(browser, "main form button")
    assert "Confirmed: its journals are public." in said(browser)
    assert all(kept["confirmed"] for kept in state.journals())


def test_an_upload_is_finalised(browser, pa2, state):
    browser.get(f"{pa2}/repayments")
    follow(browser, "tbody a")
    assert said(browser).index("loan_not_expected") < said(browser).index("L-70001-1")
    follow(browser, "main form button")
    assert "Finalised: it cannot be changed any more." in said(browser)
    assert state.uploads()[0]["finalised"] is True


def test_loans_are_searched_and_paged_through(browser, pa2):
    browser.get(f"{pa2}/loans")
    browser.find_element(By.NAME, "query").send_keys("wanjiru")
    click(browser, "option:nth-child(2)")
    follow(browser, "main form button")
    assert "found" in said(browser)
    assert browser.find_element(By.NAME, "query").get_attribute("value") == "wanjiru"
    browser.get(f"{pa2}/loans")
    follow(browser, "[rel=next]")
    assert "Page 2 of 15, 1500 in all" in said(browser)


def test_switches_are_set_and_taken_back_to_the_start(browser, pa2):
    browser.get(f"{pa2}/switches")
    click(browser, "[name=fault] option:nth-child(3)")
    browser.find_element(By.NAME, "retry_after").send_keys("30")
    follow(browser, "main form button")
    assert "now 429" in said(browser)
    follow(browser, "nav li:first-child a")
    assert "fault is 429, retry_after is 30." in said(browser)
    follow(browser, ".note a")
    follow(browser, "main form[action] button")
    assert "now 429" not in said(browser)


def test_a_photo_is_drawn_and_a_script_in_a_description_is_only_read(browser, draft):
    browser.get(draft)
    assert browser.execute_script("return document.images[0].complete && document.images[0].naturalWidth") == 1
    assert "<script>document.title" in said(browser)
    assert "taken over" not in browser.title


def test_nothing_needs_javascript(browser, draft, state):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(draft)
    click(browser, "[name=completed]")
    follow(browser, "main form button")
    assert state.drafts()[0]["published"] is True


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_against_any_page(browser, pa2, draft, scheme):
    dress(browser, scheme)
    for address in [*(pa2 + page for page in PAGES), draft]:
        browser.get(address)
        unfold(browser)
        assert violations(browser) == [], address


def test_no_page_is_wider_than_a_small_screen(browser, pa2, draft):
    """320 CSS pixels: a telephone, or a screen read at 400 % (WCAG 1.4.10)."""
    narrow(browser, 320)
    for address in [*(pa2 + page for page in PAGES), draft]:
        browser.get(address)
        unfold(browser)
        assert overflow(browser) == 0, address
