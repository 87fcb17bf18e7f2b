"""The page of the imitation's OpenAPI document in a browser: from the token to a draft, by clicking alone."""

import json
from datetime import UTC, datetime

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import element_to_be_clickable, presence_of_element_located
from selenium.webdriver.support.ui import WebDriverWait

from kiva_sandbox.app import create_app
from kiva_sandbox.data import Partner, portfolio
from kiva_sandbox.state import State
from kiva_sandbox.tokens import Tokens, new_signing_key


def now():
    return datetime.now(UTC)


@pytest.fixture
def state():
    return State(portfolio(20), now)


@pytest.fixture
def address(serve, state):
    return serve(create_app(state, Tokens(Partner(), new_signing_key(), now)))


@pytest.fixture
def page(browser, address):
    """The page, once it has read the document."""
    browser.get(f"{address}/swagger-ui")
    wait(browser, ".opblock")
    return browser


def wait(browser, selector, until=presence_of_element_located):
    return WebDriverWait(browser, 30).until(until((By.CSS_SELECTOR, selector)))


def press(page, selector):
    wait(page, selector, element_to_be_clickable).click()


def executed(page, operation):
    """Execute an operation that is unfolded: the status and the body of the answer."""
    press(page, f"#{operation} .execute")
    response = wait(page, f"#{operation} .live-responses-table .response")
    body = response.find_element(By.CSS_SELECTOR, ".highlight-code code").text
    return response.find_element(By.CSS_SELECTOR, ".response-col_status").text, json.loads(body)


def answer(page, operation):
    """The same of one that is not yet unfolded, as it is filled in."""
    press(page, f"#{operation} .opblock-summary-control")
    return executed(page, operation)


def authorise(page, token):
    press(page, ".auth-wrapper .authorize")
    wait(page, ".modal-ux input").send_keys(token)
    press(page, ".modal-ux .authorize[type=submit]")
    press(page, ".modal-ux .btn-done")


def described(page):
    """The document, as the page itself gets it."""
    read = "const done = arguments[0]; fetch('/v3/api-docs').then((answer) => answer.json()).then(done)"
    return page.execute_async_script(read)


def test_it_lists_every_operation_of_the_document(page):
    listed = {each.text for each in page.find_elements(By.CSS_SELECTOR, ".opblock-summary-path")}

    assert listed == set(described(page)["paths"])


def test_a_token_is_got_and_a_draft_is_sent_as_they_are_filled_in_and_pa2_has_nothing_against_it(page, state):
    status, token = answer(page, "operations-Token-token")
    assert status.startswith("200")
    authorise(page, token["access_token"])

    status, draft = answer(page, "operations-Loan_drafts-loan_draft")

    assert status.startswith("200")
    (kept,) = state.drafts()
    assert kept["loan_draft_uuid"] == draft["loan_draft_uuid"]
    assert kept["pa2_messages"] == []


def test_the_token_is_still_there_when_the_page_is_loaded_again(page):
    authorise(page, answer(page, "operations-Token-token")[1]["access_token"])
    page.refresh()
    wait(page, ".opblock")

    assert answer(page, "operations-Loans-loans")[0].startswith("200")


def test_without_a_token_a_call_shows_the_apis_refusal(page):
    status, refusal = answer(page, "operations-Loans-loans")

    assert status.startswith("401")
    assert refusal == {"error": "invalid_token", "error_description": "Access token missing"}
    # The browser itself writes down that an answer was a 401. It is the only thing that it complains of.
    assert [entry["source"] for entry in page.get_log("browser")] == ["network"]


def test_a_switch_is_tried_by_the_header(page):
    authorise(page, answer(page, "operations-Token-token")[1]["access_token"])
    press(page, "#operations-Loans-loans .opblock-summary-control")
    wait(page, "#operations-Loans-loans [placeholder=Kiva-Sandbox]").send_keys("naming=camel")

    assert "totalRecords" in executed(page, "operations-Loans-loans")[1]


def test_the_overview_of_pa2_leads_to_it(browser, address):
    browser.get(f"{address}/pa2/")
    browser.find_element(By.LINK_TEXT, "its Swagger page").click()

    assert wait(browser, ".opblock")
