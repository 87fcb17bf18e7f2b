"""`GET /health`: how the stack stands right now, without asking Kiva."""

import json
from datetime import datetime

import boto3
import pytest
import time_machine

from deployment import TABLE
from handlers import journals, repayments
from kiva_partner import runtime
from kiva_partner.decisions import SETTLING_SECONDS
from kiva_partner.health import MOST_COUNTED
from kiva_partner.ledger import Outcome, State
from kiva_partner.messages import Kind, parse


@pytest.fixture
def health(console):
    """What is told, and of the kinds by their names."""

    def look():
        status, body = console("/health")
        assert status == 200
        return body | {"kinds": {each.pop("kind"): each for each in body["kinds"]}}

    return look


def test_of_a_fresh_stack_there_is_nothing_to_tell(health, deployed):
    found = health()
    assert (found["environment"], found["partner_id"]) == ("sandbox", "9001")
    assert (found["token"], found["housekeeping"], found["digest"]) == ({}, {}, {})
    assert found["kinds"] == {kind: {} for kind in Kind}
    assert (deployed.token_requests, deployed.reads) == (0, 0)


def test_the_token_is_told_by_its_end_and_never_itself(health, drafts, capsys):
    with time_machine.travel("2026-11-28T10:00:00Z", tick=False):
        drafts.batch(drafts.message("L-1"))
        found = health()
    assert found["token"] == {"expires_at": "2026-11-28T21:59:59+00:00"}
    assert "canary" not in json.dumps(found) + capsys.readouterr().out


def test_a_scope_that_the_token_lacks_is_named(health, drafts, deployed):
    deployed.scopes = {"create:loan_draft"}
    drafts.batch(drafts.message("L-1"))
    assert health()["token"]["scopes_missing"] == ["read:loans", "create:journal_update", "create:repayment"]


def test_a_token_that_cannot_be_read_keeps_nothing_else_from_being_told(health, monkeypatch):
    monkeypatch.setattr(runtime.tokens(), "shared", lambda: 1 / 0)
    found = health()
    assert found["token"]["problem"].startswith("the shared token cannot be read: ZeroDivisionError")
    assert found["kinds"]


def test_the_last_runs_of_what_the_clock_starts_are_told(health):
    runtime.runs().ended("housekeeping", {"stuck": 0, "token": "kept"})
    found = health()
    assert found["housekeeping"]["result"] == {"stuck": 0, "token": "kept"}
    assert found["digest"] == {}


def test_an_open_circuit_is_told_with_its_end(health):
    with time_machine.travel("2026-11-28T10:00:00Z", tick=False):
        runtime.breaker().note(Kind.REPAYMENT, [False] * 3, trial=False)
        kinds = health()["kinds"]
    assert kinds["repayment"]["open_until"] == "2026-11-28T10:01:00+00:00"
    assert "open_until" not in kinds["loan_draft"]


def test_unknown_outcomes_are_counted_by_call_and_told_when_they_can_be_decided(health, updates, deployed):
    deployed.answers = [(500, {}), (500, {})]
    two = journals("L-1")["journals"] + journals("L-2")["journals"]
    with time_machine.travel("2026-11-28T10:00:00Z", tick=False):
        updates.batch({"journals": two})
        updates.batch(journals("L-3"))
        unknown = health()["kinds"]["journal_update"]["unknown"]
    row = runtime.ledger().read(Kind.JOURNAL_UPDATE, updates_reference("L-3"))
    assert (unknown["calls"], unknown["submissions"]) == (2, 3)
    assert unknown["since"].startswith("2026-11-28T10:00:00")
    assert datetime.fromisoformat(unknown["decidable_at"]).timestamp() == row.lease_until + SETTLING_SECONDS


def updates_reference(loan):
    message = parse(Kind.JOURNAL_UPDATE, json.dumps(journals(loan)), runtime.settings().rules)
    return message.submissions[0].reference


def test_what_is_retried_is_told_with_its_age_and_the_last_reason(health, drafts, deployed):
    deployed.answers = [(429, {}), (429, {})]
    with time_machine.travel("2026-11-28T10:00:00Z", tick=False) as now:
        drafts.batch(drafts.message("L-1"))
        now.shift(3600)
        drafts.batch(drafts.message("L-1"))
        retry = health()["kinds"]["loan_draft"]["retry"]
    assert retry["submissions"] == 1
    assert retry["since"].startswith("2026-11-28T10:00:00")
    assert retry["reason"] == "Kiva asks to come later: HTTP 429"


def test_what_is_stuck_and_what_is_queued_are_told(health, reports):
    reports.post(repayments("L-1"))
    reports.post(repayments("L-2"))
    row = runtime.ledger().read(Kind.REPAYMENT, "2026-10:L-1:100.50")
    runtime.ledger().mark_stuck([(row, "its message is a dead letter")])
    told = health()["kinds"]["repayment"]
    assert (told["queued"]["submissions"], told["stuck"]["submissions"]) == (1, 1)


def test_what_kiva_refused_within_the_hour_is_counted(health, drafts, deployed):
    deployed.answers = [(422, {"message": "no"})] * 3
    with time_machine.travel("2026-11-28T10:00:00Z", tick=False) as now:
        drafts.batch(drafts.message("L-1"))
        now.shift(3601)
        drafts.batch(drafts.message("L-2"), drafts.message("L-3"))
        refused = health()["kinds"]["loan_draft"]["refused"]
    assert refused["submissions"] == 2
    assert refused["since"].startswith("2026-11-28T11:00:01")


def test_of_very_many_it_counts_some_the_oldest_among_them(health, deployed):
    """No more than one page of each kind and state is read."""
    rules, client = runtime.settings().rules, boto3.client("dynamodb")
    rows = [{"loan_id": f"L-{number}", "client_id": "C", "amount": 1} for number in range(MOST_COUNTED + 1)]
    submissions = parse(Kind.REPAYMENT, json.dumps({"period": "2026-10", "repayments": rows}), rules).submissions
    with time_machine.travel("2026-11-20T10:00:00Z", tick=False):
        runtime.ledger().enqueue(submissions[:1])
    runtime.ledger().enqueue(submissions[1:])
    queued = health()["kinds"]["repayment"]["queued"]
    assert (queued["submissions"], queued["more"]) == (MOST_COUNTED, True)
    assert queued["since"].startswith("2026-11-20")
    assert client.describe_table(TableName=TABLE)["Table"]["ItemCount"] == MOST_COUNTED + 1


def test_an_outcome_that_came_late_is_told_no_more(health, drafts, deployed):
    deployed.answers = [(500, {})]
    drafts.batch(drafts.message("L-1"))
    row = runtime.ledger().read(Kind.LOAN_DRAFT, "L-1")
    runtime.ledger().resolve([(row, Outcome(State.ACCEPTED, kiva={"loan_draft_uuid": "u-1"}))])
    assert health()["kinds"]["loan_draft"] == {}
