"""The whole circle, in a browser: what went in waits for a person, who does it at "Kiva", and then it waits no more."""

import re

import pytest
from selenium.webdriver.common.by import By

from chromium import go
from cli.console import create_app
from cli.stacks import local_stack
from e2e.world import loans
from local.stack import REGION


@pytest.fixture
def page(world, serve):
    """The coordinator's page of the session's stack."""
    stack = world.stack
    return serve(create_app(local_stack(stack.name, stack.endpoint, stack.api, REGION)))


@pytest.fixture
def waits(world):
    """Everything of a section that waits for a person."""
    return lambda section: world.stack.call("GET", "/waiting").json()[section]


def find(browser, text, within="main"):
    """The button or the link that says this."""
    found = browser.find_element(By.CSS_SELECTOR, within).find_elements(
        By.XPATH, f".//*[self::a or self::button][contains(normalize-space(), '{text}')]"
    )
    return next(each for each in found if each.is_displayed())


def press(browser, text, within="main"):
    """Press what leads to another page."""
    go(browser, find(browser, text, within))


def article(browser, words):
    """A selector of the article whose heading begins so."""
    for number, each in enumerate(browser.find_elements(By.CSS_SELECTOR, "main article")):
        if each.find_element(By.TAG_NAME, "h3").text.startswith(words):
            browser.execute_script("arguments[0].dataset.test = arguments[1]", each, str(number))
            return f"article[data-test='{number}']"
    raise AssertionError(f"no article begins with {words}: {browser.find_element(By.TAG_NAME, 'main').text}")


def test_a_draft_is_published_and_leaves_the_list_when_it_is_found_among_the_loans(world, page, chromium, waits):
    draft = world.draft()
    world.put("loan_draft", draft)
    (loan_id,) = loans("loan_draft", draft)
    uuid = world.ended("loan_draft", loan_id)["kiva"]["loan_draft_uuid"]
    assert uuid in [each["loan_draft_uuid"] for each in waits("drafts")]

    chromium.get(f"{page}/?section=drafts")
    press(chromium, "Look which are published")
    assert uuid in chromium.find_element(By.TAG_NAME, "main").text

    chromium.get(f"{world.stack.sandbox}/pa2/drafts/{uuid}")
    for tick in chromium.find_elements(By.NAME, "completed"):
        tick.click()
    press(chromium, "Publish")
    assert "Published" in chromium.find_element(By.TAG_NAME, "main").text

    chromium.get(f"{page}/?section=drafts")
    press(chromium, "Look which are published")
    assert uuid not in chromium.find_element(By.TAG_NAME, "main").text
    assert uuid not in [each["loan_draft_uuid"] for each in waits("drafts")]


def test_journals_are_confirmed_where_their_link_leads(world, page, chromium, waits):
    journals = world.journals(2)
    world.put("journal_update", journals)
    world.until(lambda: _archive_of(waits, loans("journal_update", journals)), "the archive to wait")
    archive = _archive_of(waits, loans("journal_update", journals))

    chromium.get(f"{page}/?section=archives")
    here = article(chromium, f"Archive {archive}")
    link = chromium.find_element(By.CSS_SELECTOR, here).find_element(By.PARTIAL_LINK_TEXT, "review and publish")
    assert link.get_attribute("href") == f"{world.stack.sandbox}/pa2/journals/confirm/{archive}"
    chromium.get(link.get_attribute("href"))
    press(chromium, "Confirm")
    confirmed = [each["confirmed"] for each in world.sandbox("journals")["data"] if each["archive_id"] == archive]
    assert confirmed == [True, True]

    chromium.get(f"{page}/?section=archives")
    press(chromium, "Confirmed", article(chromium, f"Archive {archive}"))
    assert archive not in [each["archive_id"] for each in waits("archives")]


def test_an_upload_with_a_problem_row_is_finalised_and_the_refused_row_seen_to(world, page, chromium, waits):
    report = world.repayments(2)
    report["repayments"].append({"loan_id": f"STRANGER-{world.number()}", "client_id": "C-1", "amount": 5})
    world.put("repayment", report)
    stranger = report["repayments"][-1]["loan_id"]
    refused = world.ended("repayment", f"2026-10:{stranger}:5.00")
    upload = refused["kiva"]["upload_id"]

    chromium.get(f"{page}/?section=uploads&text={upload}")
    assert stranger in chromium.page_source
    chromium.get(f"{world.stack.sandbox}/pa2/repayments/{upload}")
    press(chromium, "Finalise")
    assert [each["finalised"] for each in world.sandbox("uploads")["data"] if str(each["upload_id"]) == upload] == [
        True
    ]

    chromium.get(f"{page}/?section=uploads")
    press(chromium, "Finalised", article(chromium, f"Upload {upload}"))
    assert upload not in [each["upload_id"] for each in waits("uploads")]

    chromium.get(f"{page}/?section=rejected&text={stranger}")
    chromium.find_element(By.CSS_SELECTOR, f"input[aria-label*='{stranger}']").click()
    press(chromium, "Seen to")
    assert refused["reference"] not in [each["reference"] for each in waits("rejected")]


def test_what_nobody_knows_is_decided_in_the_dialog_and_sent_again_once(world, page, chromium, waits):
    draft = world.draft()
    (reference,) = world.die_before_sending("loan_draft", draft)
    world.put("loan_draft", draft)
    world.until(lambda: reference in _unknown(waits), "it to be UNKNOWN")

    chromium.get(f"{page}/?section=unknown")
    assert "the function that was sending it ended without a word" in chromium.find_element(By.TAG_NAME, "main").text
    find(chromium, "Decide …", article(chromium, f"Loan draft {reference}")).click()
    (dialog,) = chromium.find_elements(By.CSS_SELECTOR, "dialog[open]")
    dialog.find_element(By.CSS_SELECTOR, "input[value=send-again]").click()
    dialog.find_element(By.NAME, "reason").send_keys("neither in Drafts nor in Loans")
    press(chromium, "Decide", "dialog[open]")

    assert reference not in _unknown(waits)
    world.housekeeping()
    ended = world.ended("loan_draft", reference)
    assert ended["state"] == "ACCEPTED"
    assert ended["decisions"][0]["reason"] == "neither in Drafts nor in Loans"
    assert len(world.at_kiva("loan_draft", reference)) == 1
    world.housekeeping()
    assert world.kept() == []


def test_all_of_a_loan_is_found_by_its_id(world, page, chromium):
    draft = world.draft()
    (loan_id,) = loans("loan_draft", draft)
    world.put("loan_draft", draft)
    world.ended("loan_draft", loan_id)
    chromium.get(f"{page}/loan?id={loan_id}")
    assert re.search(rf"{loan_id} .*ACCEPTED", chromium.find_element(By.TAG_NAME, "main").text, re.DOTALL)


def _archive_of(waits, loan_ids):
    return next((each["archive_id"] for each in waits("archives") if set(loan_ids) <= set(each["loan_ids"])), "")


def _unknown(waits):
    return [row["reference"] for call in waits("unknown") for row in call["submissions"]]
