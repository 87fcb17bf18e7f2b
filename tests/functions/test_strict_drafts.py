"""What PA2 would find in a draft: told as warnings, or refused with `StrictDrafts`."""

import json
from importlib import import_module

import boto3
import pytest
import responses
import time_machine

from fakes import PARTNER_URL
from handlers import BORROWER
from images import data_uri, png
from kiva_partner import runtime
from kiva_sandbox.data import CONFIG


@pytest.fixture
def lists(deployed, context):
    """Kiva's lists, fetched by housekeeping; tells what it says it has done."""
    for name, rows in CONFIG.items():
        deployed.mock.add(responses.GET, f"{PARTNER_URL}/config/{name}", json={name: rows})
    return lambda: import_module("housekeeping.app").handler({}, context)["catalogue"]


@pytest.fixture
def strict(monkeypatch):
    monkeypatch.setenv("STRICT_DRAFTS", "yes")
    runtime.forget()


@pytest.fixture
def complete(drafts):
    """A draft that PA2 would publish, with changes."""

    def make(loan="L-1", **changes):
        whole = {
            "activity_id": 61,
            "theme_type_id": 48,
            "description_language_id": 1,
            "location": "Kisumu: Kenya",
            "loanuse": "to restock her stall.",
            "client_waiver_signed": True,
            "disburse_time": "2026-12-01",
            "schedule": [{"date": "2027-01-01", "principal": 100}],
            "image_encoded": data_uri(png()),
        }
        return drafts.message(loan, **{**whole, **changes})

    with time_machine.travel("2026-11-25T12:00:00Z"):
        yield make


def test_lists_are_fetched_once_an_hour_and_a_draft_is_compared_with_them(lists, drafts, complete, console):
    assert lists() == "fetched"
    assert lists() == "kept"
    drafts.batch(complete("L-1"), complete("L-2", location="Atlantis: Sea"))
    assert "warnings" not in console("/submissions/loan_draft/L-1")[1]
    shown = console("/submissions/loan_draft/L-2")[1]
    assert shown["state"] == "ACCEPTED"
    assert shown["warnings"] == ["$.location: is not defined for this partner at Kiva (config/locations)"]


def test_a_draft_by_the_api_is_told_at_once(lists, drafts, complete):
    lists()
    status, body, _ = drafts.post(complete(activity_id=1))
    assert status == 202
    assert body["warnings"] == ["$.activity_id: is not defined for this partner at Kiva (config/activities)"]


def test_lists_that_cannot_be_fetched_keep_nobody_waiting(deployed, drafts, complete, context, console, caplog):
    for name in CONFIG:
        deployed.mock.add(responses.GET, f"{PARTNER_URL}/config/{name}", status=500)
    assert import_module("housekeeping.app").handler({}, context)["catalogue"] == "kept"
    drafts.batch(complete(location="Atlantis: Sea"))
    assert console("/submissions/loan_draft/L-1")[1]["state"] == "ACCEPTED"


def test_strictly_judged_it_is_a_dead_letter_with_every_finding_and_kiva_never_sees_it(
    strict, lists, deployed, drafts, complete, waiting
):
    lists()
    drafts.batch(complete(location="Atlantis: Sea", client_waiver_signed=False), complete("L-2"))
    assert [body["entreps"][0]["loan_id"] for _, body in deployed.sent] == ["L-2"]
    (letter,) = waiting("dead letters")
    reason = letter["MessageAttributes"]["Reason"]["StringValue"]
    assert "$.location: is not defined" in reason
    assert "$.client_waiver_signed: must be true" in reason
    assert not [value for value in ("Atlantis", *BORROWER) if value in reason]


def test_strictly_judged_the_api_refuses_it_with_field_and_rule(strict, lists, deployed, drafts, complete):
    lists()
    for headers in ({}, {"Prefer": "wait"}):
        status, body, _ = drafts.post(complete(location="Atlantis: Sea"), **headers)
        assert status == 400
        assert [error["field"] for error in body["errors"]] == ["$.location"]
    assert deployed.sent == []


def test_what_kiva_has_already_is_answered_from_the_ledger_however_strictly_it_is_judged_now(
    lists, deployed, drafts, complete, waiting, monkeypatch
):
    late = complete(location="Atlantis: Sea")
    drafts.batch(late)
    monkeypatch.setenv("STRICT_DRAFTS", "yes")
    runtime.forget()
    lists()
    assert drafts.batch(late) == []
    assert waiting("dead letters") == []
    assert drafts.post(late)[0] == 200
    assert len(deployed.sent) == 1


def test_what_waits_since_it_was_not_strict_goes_on(lists, deployed, drafts, complete, waiting, monkeypatch):
    deployed.answers = [(429, {})]
    late = complete(location="Atlantis: Sea")
    assert drafts.batch(late) == ["m0"]
    monkeypatch.setenv("STRICT_DRAFTS", "yes")
    runtime.forget()
    lists()
    assert drafts.batch(late) == []
    assert waiting("dead letters") == []


def test_what_a_person_decided_to_send_again_is_not_judged_a_second_time(
    lists, deployed, drafts, complete, console, context, waiting, monkeypatch
):
    with time_machine.travel("2026-11-25T12:00:00Z", tick=False) as time:
        lists()
        deployed.answers = [(500, {})]
        drafts.batch(complete(location="Atlantis: Sea"))
        monkeypatch.setenv("STRICT_DRAFTS", "yes")
        runtime.forget()
        time.shift(3600)
        said = {"decision": "send-again", "reason": "not in PA2"}
        assert console("/submissions/loan_draft/L-1/decision", said)[0] == 200
        import_module("housekeeping.app").handler({}, context)
        bodies = [message["Body"] for message in waiting() if "kept" in message["Body"]]
        assert drafts.batch(*bodies) == []
    assert console("/submissions/loan_draft/L-1")[1]["state"] == "ACCEPTED"
    assert console("/submissions/loan_draft/L-1")[1]["warnings"]


def test_the_lists_are_the_tables_only_row_without_a_borrower(lists, drafts, complete):
    lists()
    drafts.batch(complete())
    rows = boto3.client("dynamodb").scan(TableName="ledger")["Items"]
    assert [json.loads(row["lists"]["S"])["themes"] for row in rows if "lists" in row]
    assert not [value for value in BORROWER if value in json.dumps(rows)]
