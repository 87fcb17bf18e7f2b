"""What else the relay command does: it looks, decides, and mends; and says by its exit code how it went."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError, NoCredentialsError
from typer.testing import CliRunner

from borrowers import NAME
from cli import app as command
from cli import stacks
from cli.dead_letters import DeadLetter, Found, Letter
from cli.relay_api import NoAnswer, Refused
from sockets import HttpServer, answer, say


def squeezed(text):
    return " ".join(text.split())


@pytest.fixture
def submission(relay):
    """A repayment that nobody knows about, with all that can be known of one."""
    found = relay.shown(
        "repayment",
        "2026-10:L-1:10.00",
        "L-1",
        "UNKNOWN",
        call_id="call-1",
        period="2026-10",
        reason="no answer came",
        problems=[{"severity": "error", "code": "repayment.odd", "details": "odd \x1b[31m[bold]"}],
        kiva={"upload_id": "90001"},
        warnings=["look closely"],
        decisions=[{"decision": "send-again", "reason": "not in PA2", "by": "arn:somebody", "at": "2026-11-25T09:00"}],
    )
    relay.note(found)
    return found


# --- status -----------------------------------------------------------------------------------------------------------


def test_status_shows_everything_that_is_known_of_a_submission_of_any_kind(run, relay, submission):
    ran = run("status", submission["reference"])

    assert ran.exit_code == 0
    shown = squeezed(ran.stdout)
    for fact in ("call id call-1", "no answer came", "error repayment.odd: odd ?[31m[bold]", "kiva's upload id 90001"):
        assert fact in shown
    assert "send-again: not in PA2 (arn:somebody)" in shown
    assert [path[1] for path, _ in relay.asked] == ["loan_draft", "journal_update", "repayment"]


def test_status_asks_for_one_kind_where_it_is_told_which(run, relay, submission):
    ran = run("status", submission["reference"], "--kind", "repayment", "--json")

    assert json.loads(ran.stdout) == submission
    assert len(relay.asked) == 1


def test_status_of_a_message_shows_each_of_it(run, relay):
    relay.known["repayment", "R7"] = [relay.shown("repayment", f"R7:L-{it}", f"L-{it}", "ACCEPTED") for it in (1, 2)]

    ran = run("status", "R7")

    assert "R7:L-1" in ran.stdout
    assert "Submissions: 2 ACCEPTED" in ran.stdout


def test_status_of_what_nobody_sent_is_a_problem(run):
    ran = run("status", "R\x1b7")

    assert ran.exit_code == 1
    assert ran.stderr == "No submission and no message has the reference R?7, and nothing is of such a loan.\n"


def test_status_takes_the_id_of_a_loan_where_nothing_has_it_as_its_reference(run, relay):
    shown = relay.shown("loan_draft", "KIV~2F2026~2F001", "KIV/2026/001", "ACCEPTED", reason="made")
    relay.lists = {"KIV/2026/001": [shown]}

    ran = run("status", "KIV/2026/001")

    assert ran.exit_code == 0
    assert "KIV~2F2026~2F001" in ran.stdout
    assert "reason made" in squeezed(ran.stdout)
    assert ran.stderr == "No submission and no message has the reference KIV/2026/001; this is of the loan.\n"
    assert json.loads(run("status", "KIV/2026/001", "--json").stdout) == shown
    assert run("status", "KIV/2026/001", "--kind", "repayment").exit_code == 1


def test_status_lists_several_submissions_of_a_loan(run, relay, submission):
    journal = relay.shown("journal_update", "L-1:abc", "L-1", "ACCEPTED")
    relay.lists = {"L-1": [submission, journal]}

    ran = run("status", "L-1")

    assert [it for it in ("2026-10:L-1:10.00", "L-1:abc") if it not in ran.stdout] == []
    assert "call id" not in ran.stdout
    assert json.loads(run("status", "L-1", "--json").stdout) == [submission, journal]
    assert json.loads(run("status", "L-1", "--kind", "journal_update", "--json").stdout) == journal


def test_status_of_a_reference_does_not_ask_for_a_loan_of_that_name(run, relay, submission):
    relay.lists = {submission["reference"]: [relay.shown("repayment", "other", submission["reference"], "ACCEPTED")]}

    assert json.loads(run("status", submission["reference"], "--json").stdout) == submission


def test_decide_takes_no_loan_for_a_reference(run, relay):
    relay.lists = {"L-1": [relay.shown("repayment", "2026-10:L-1:10.00", "L-1", "UNKNOWN")]}

    ran = run("decide", "L-1", "abandon", "--reason", "x", "--yes")

    assert ran.exit_code == 1
    assert ran.stderr == "No submission and no message has the reference L-1.\n"
    assert relay.posted == []


# --- lists ------------------------------------------------------------------------------------------------------------


def test_list_shows_a_state_of_all_kinds_or_of_one(run, relay, submission):
    relay.lists = {
        ("repayment", "UNKNOWN"): [submission],
        ("loan_draft", "UNKNOWN"): [relay.shown("loan_draft", "L-9", "L-9", "UNKNOWN")],
    }

    every = run("list", "--state", "UNKNOWN", "--since", "2026-11-01", "--json")
    one = run("list", "--state", "UNKNOWN", "--kind", "repayment")

    assert [each["loan_id"] for each in json.loads(every.stdout)["submissions"]] == ["L-9", "L-1"]
    assert {query["since"] for _, query in relay.asked[:3]} == {"2026-11-01"}
    assert "2026-10:L-1:10.00" in one.stdout
    assert "Submissions: 1" in one.stdout


@pytest.mark.parametrize("state", ["unknown", "Unknown", "UNKNOWN"])
def test_list_takes_a_state_in_any_case(run, relay, submission, state):
    relay.lists = {("repayment", "UNKNOWN"): [submission]}

    assert "Submissions: 1" in run("list", "--state", state, "--kind", "repayment").stdout


def test_list_shows_the_repayments_of_a_month_in_every_state_or_in_one(run, relay, submission):
    other = relay.shown("repayment", "2026-09:L-1:5.00", "L-1", "UNKNOWN", period="2026-09")
    accepted = relay.shown("repayment", "2026-10:L-2:5.00", "L-2", "ACCEPTED", period="2026-10")
    relay.lists = {
        ("repayment", "UNKNOWN"): [other, submission],
        ("repayment", "ACCEPTED"): [accepted],
        "L-1": [submission, other],
    }

    def listed(*arguments):
        ran = run("list", *arguments, "--period", "2026-10", "--json")
        return sorted(each["loan_id"] for each in json.loads(ran.stdout)["submissions"])

    assert listed() == ["L-1", "L-2"]
    assert listed("--state", "unknown") == ["L-1"]
    assert listed("--state", "unknown", "--limit", "1") == ["L-1"]
    assert listed("--loan", "L-1") == ["L-1"]
    assert {path["kind"] for _, path in relay.asked if "kind" in path} == {"repayment"}


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--state", "UNKNOWN", "--loan", "L-1"),
        ("--period", "2026-10", "--kind", "loan_draft"),
        ("--period", "October"),
        ("--state", "dreamt"),
    ],
)
def test_list_says_what_it_wants(run, arguments):
    ran = run("list", *arguments)
    assert (ran.exit_code, ran.stdout) == (2, "")


def test_list_shows_all_of_a_loan(run, relay, submission):
    relay.lists = {"L-1": [submission, relay.shown("journal_update", "L-1:abc", "L-1", "ACCEPTED")]}

    ran = run("list", "--loan", "L-1")

    assert "Submissions: 2" in ran.stdout
    assert "L-1:abc" in ran.stdout


@pytest.mark.parametrize(
    "arguments", [(), ("--state", "LOST"), ("--state", "UNKNOWN", "--loan", "L-1"), ("--limit", "0")]
)
def test_list_wants_to_know_of_what(run, relay, arguments):
    assert run("list", *arguments).exit_code == 2
    assert relay.asked == []


def loan(number, **changes):
    ids = {"kiva_id": str(number), "internal_loan_id": f"L-{number}", "internal_client_id": f"C-{number}"}
    return {**ids, "name": NAME, "status": "payingBack", "loan_currency": "KES", "loan_local_price": "1.00", **changes}


def test_loans_are_shown_page_by_page_and_without_names(run, relay):
    relay.lists = {("loans", "payingBack"): [loan(number) for number in range(700)]}

    shown = run("loans", "--status", "payingBack", "--limit", "650")
    some = run("loans", "--status", "payingBack", "--json", "--limit", "1", "--offset", "699")

    assert "Loans: 650; more with --offset 650" in shown.stdout
    assert "L-649" in shown.stdout
    assert [each["internal_loan_id"] for each in json.loads(some.stdout)["loans"]] == ["L-699"]
    assert NAME not in shown.stdout + some.stdout


def test_config_shows_one_of_kivas_lists(run, relay):
    relay.lists = {"config": {"themes": [{"id": 48, "name": "Green [loans]"}], "as_of_date_time": "2026-11-25"}}

    assert "48 Green [loans]" in squeezed(run("config", "themes").stdout)
    assert json.loads(run("config", "themes", "--json").stdout) == relay.lists["config"]
    assert run("config", "secrets").exit_code == 2


def test_what_the_relay_cannot_make_sense_of_is_wrong_use(run, relay, monkeypatch):
    def get(*_, **__):
        raise Refused(
            400, {"title": "The message breaks a rule", "errors": [{"field": "since", "rule": "must be a day"}]}
        )

    monkeypatch.setattr(relay, "get", get)

    ran = run("list", "--state", "UNKNOWN", "--since", "yesterday")

    assert ran.exit_code == 2
    assert "since must be a day" in ran.stderr


# --- missing ----------------------------------------------------------------------------------------------------------


def repaid(relay, number, state, period="2026-10"):
    return relay.shown("repayment", f"{period}:L-{number}:1.00", f"L-{number}", state, period=period)


def test_missing_lists_loans_without_a_repayment_of_the_month_and_what_is_on_its_way(run, relay):
    relay.lists = {
        ("loans", "payingBack"): [loan(1), loan(2), loan(3), loan(4), loan(5), loan(6)],
        ("loans", "defaulted"): [loan(7, status="defaulted"), loan(8, internal_loan_id=None)],
        ("repayment", "ACCEPTED"): [
            repaid(relay, 1, "ACCEPTED"),
            repaid(relay, 2, "ACCEPTED", "2026-11"),
            repaid(relay, 6, "ACCEPTED"),
        ],
        ("repayment", "QUEUED"): [repaid(relay, 3, "QUEUED")],
        ("repayment", "UNKNOWN"): [repaid(relay, 4, "UNKNOWN"), repaid(relay, 6, "UNKNOWN")],
    }

    shown = run("missing", "--period", "2026-10")
    document = json.loads(run("missing", "--period", "2026-10", "--json").stdout)

    assert shown.exit_code == 1
    assert (
        "of 8 loans that pay back 2 are at Kiva, 2 on their way, 0 reported without a month, 4 missing" in shown.stdout
    )
    assert [each["internal_loan_id"] for each in document["missing"]] == ["L-2", "L-5", "L-7", None]
    assert [each["loan_id"] for each in document["on_their_way"]] == ["L-3", "L-4"]
    assert NAME not in shown.stdout


@pytest.mark.parametrize(
    ("changed", "period"), [("2026-09-30T21:30", "2026-10"), ("2026-08-01T00:00", "2026-10"), ("2025-12-15", "2026-01")]
)
def test_a_report_before_its_month_has_begun_counts(run, relay, changed, period):
    """Half past midnight in Nairobi is the day before by UTC; and some report a month in advance."""
    early = relay.shown("repayment", f"{period}:L-1:1.00", "L-1", "ACCEPTED", period=period) | {"updated_at": changed}
    relay.lists = {("loans", "payingBack"): [loan(1)], ("repayment", "ACCEPTED"): [early]}

    assert run("missing", "--period", period).exit_code == 0


def test_what_is_stuck_is_missing_and_says_why(run, relay):
    stuck = {**repaid(relay, 1, "STUCK"), "reason": "its message is a dead letter"}
    relay.lists = {
        ("loans", "payingBack"): [loan(1), loan(2), loan(3)],
        ("repayment", "STUCK"): [
            stuck,
            repaid(relay, 2, "STUCK"),
            relay.shown("repayment", "oct-kisumu:L-3", "L-3", "STUCK"),
        ],
        ("repayment", "SENDING"): [repaid(relay, 2, "SENDING")],
    }

    ran = run("missing", "--period", "2026-10")
    document = json.loads(run("missing", "--period", "2026-10", "--json").stdout)

    assert ran.exit_code == 1
    assert "STUCK its message is a dead letter" in squeezed(ran.stdout)
    assert [each["internal_loan_id"] for each in document["missing"]] == ["L-1", "L-3"]
    assert [each["loan_id"] for each in document["on_their_way"]] == ["L-2"]


def test_what_was_reported_without_a_month_is_shown_as_such_and_is_not_missing(run, relay):
    relay.lists = {
        ("loans", "payingBack"): [loan(number) for number in range(1, 8)],
        ("repayment", "ACCEPTED"): [
            relay.shown("repayment", "oct-kisumu:L-1", "L-1", "ACCEPTED"),
            relay.shown("repayment", "oct-kisumu:L-2", "L-2", "ACCEPTED"),
            repaid(relay, 2, "ACCEPTED"),
        ],
        ("repayment", "UNKNOWN"): [relay.shown("repayment", "oct-kisumu:L-3", "L-3", "UNKNOWN")],
        ("repayment", "RETRY"): [repaid(relay, 4, "RETRY"), relay.shown("repayment", "oct-kisumu:L-4", "L-4", "RETRY")],
        ("repayment", "ABANDONED"): [relay.shown("repayment", "oct-kisumu:L-5", "L-5", "ABANDONED")],
        ("repayment", "REJECTED"): [relay.shown("repayment", "oct-kisumu:L-6", "L-6", "REJECTED")],
    }

    shown = run("missing", "--period", "2026-10")
    document = json.loads(run("missing", "--period", "2026-10", "--json").stdout)

    assert [each["loan_id"] for each in document["without_month"]] == ["L-1", "L-3", "L-5"]
    assert [each["loan_id"] for each in document["on_their_way"]] == ["L-4"]
    assert [each["internal_loan_id"] for each in document["missing"]] == ["L-6", "L-7"]
    assert "They may be of 2026-10: give period in the message to count it." in shown.stdout
    assert "1 are at Kiva, 1 on their way, 3 reported without a month, 2 missing" in shown.stdout


def test_what_was_refused_is_missing_and_the_reason_is_shown(run, relay):
    relay.lists = {
        ("loans", "payingBack"): [loan(1), loan(2), loan(3), loan(4)],
        ("repayment", "REJECTED"): [
            {**repaid(relay, 1, "REJECTED"), "reason": "Kiva refused it \x1b[31m"},
            {**repaid(relay, 2, "REJECTED"), "reason": "first try"},
            {**repaid(relay, 4, "REJECTED", "2026-09"), "reason": "in September"},
        ],
        ("repayment", "ABANDONED"): [repaid(relay, 3, "ABANDONED")],
        ("repayment", "ACCEPTED"): [repaid(relay, 2, "ACCEPTED")],
    }

    shown = squeezed(run("missing", "--period", "2026-10").stdout)
    first, third, fourth = json.loads(run("missing", "--period", "2026-10", "--json").stdout)["missing"]

    assert first["internal_loan_id"] == "L-1"
    assert (first["reference"], first["state"]) == ("2026-10:L-1:1.00", "REJECTED")
    assert third["internal_loan_id"] == "L-3"
    assert "nobody knows whether Kiva has it" in third["reason"]
    assert "state" not in fourth
    assert "REJECTED Kiva refused it ?[31m" in shown
    assert "September" not in shown


def test_missing_says_that_a_month_is_far_away(run, relay):
    assert run("missing", "--period", "2062-10").stderr == "2062-10 is 431 months ahead\n"
    assert run("missing", "--period", "2026-10").stderr == ""


def test_nothing_missing_is_fine(run, relay):
    relay.lists = {("loans", "payingBack"): [loan(1)], ("repayment", "RETRY"): [repaid(relay, 1, "RETRY")]}

    ran = run("missing", "--period", "2026-10")

    assert ran.exit_code == 0
    assert "0 missing" in ran.stdout


@pytest.mark.parametrize("arguments", [(), ("--period", "October"), ("--period", "2026-13")])
def test_missing_wants_a_month(run, relay, arguments):
    assert run("missing", *arguments).exit_code == 2
    assert relay.asked == []


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_says_what_works_and_how_to_mend_what_does_not(run, relay):
    right = {"name": "token", "ok": True, "detail": "from Kiva", "mend": ""}
    wrong = {"name": "scope read:loans", "ok": False, "detail": "not granted", "mend": "ask Kiva for it"}
    relay.lists = {"check": {"checks": [right, wrong]}}

    ran = run("check")

    assert ran.exit_code == 1
    assert ran.stdout.splitlines() == [
        "✓ stack: a-stack talks to Kiva's sandbox",
        "✓ api: answers you",
        "✓ token: from Kiva",
        "✗ scope read:loans: not granted",
        "  → ask Kiva for it",
    ]
    relay.lists = {"check": {"checks": [right]}}
    assert run("check").exit_code == 0


def test_check_leads_to_health_where_something_is_to_be_looked_at_though_all_is_configured_right(run, relay):
    relay.lists = {"check": {"checks": [{"name": "token", "ok": True, "detail": "from Kiva"}]}}
    relay.health["kinds"][0] |= {"open_until": "2026-11-28T10:05:00+00:00"}
    relay.health["housekeeping"] = {}

    ran = run("check")

    said = "Right now there is something to look at (circuits, housekeeping): relay health --stage local"
    assert ran.stdout.splitlines()[-1] == said
    assert ran.exit_code == 0


@pytest.mark.parametrize(
    ("error", "mend"),
    [
        (NoAnswer("The relay's API does not answer: ConnectTimeout."), "ConnectTimeout"),
        (Refused(403, {"message": "Forbidden"}), "execute-api:Invoke"),
        (Refused(404, {}), "deploy"),
        (Refused(502, {"title": "This stack is not configured as Kiva needs it"}), "not configured"),
    ],
)
def test_an_api_that_does_not_serve_is_a_cross(run, relay, monkeypatch, error, mend):
    def get(*_, **__):
        raise error

    monkeypatch.setattr(relay, "get", get)

    ran = run("check", "--json")

    assert ran.exit_code == 1
    stack, api = json.loads(ran.stdout)["checks"]
    assert stack["ok"]
    assert not api["ok"]
    assert mend in api["mend"]


def test_a_stack_that_is_not_there_is_a_cross(run):
    ran = run("check", "--stage", "production")

    assert ran.exit_code == 1
    assert "it has local, prod" in ran.stdout


# --- decide -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def undecided(relay, submission):
    """Two repayments of one call, and a third of another."""
    other = relay.shown("repayment", "2026-10:L-2:5.00", "L-2", "UNKNOWN", call_id="call-1")
    stranger = relay.shown("repayment", "2026-10:L-3:5.00", "L-3", "UNKNOWN", call_id="call-2")
    relay.lists = {("repayment", "UNKNOWN"): [submission, other, stranger]}
    relay.answers = [{"kind": "repayment", "submissions": [submission, other]}]
    return submission["reference"]


def test_a_decision_is_made_after_it_was_said_what_it_does_to_which(run, relay, undecided):
    ran = run("decide", undecided, "send-again", "--reason", "not in PA2", typed="y\n")

    assert ran.exit_code == 0
    assert "Decided together: 2026-10:L-1:10.00, 2026-10:L-2:5.00\n" in ran.stderr
    assert "it has them twice" in ran.stderr
    assert "L-3" not in ran.stderr
    assert relay.posted == [
        (
            ("submissions", "repayment", undecided, "decision"),
            {"decision": "send-again", "reason": "not in PA2"},
        )
    ]


def test_a_call_that_kiva_has_without_some_of_its_rows_is_decided_in_one_decision(run, relay, undecided):
    arguments = ("accepted", "--kiva-reference", "90001", "--reason", "in PA2", "--except", "2026-10:L-2:5.00")

    ran = run("decide", undecided, *arguments, typed="y\n")

    assert ran.exit_code == 0
    assert "they become ACCEPTED, and are never sent again, except 1, which become REJECTED." in ran.stderr
    assert relay.posted[0][1]["except"] == ["2026-10:L-2:5.00"]


def test_what_was_refused_is_reopened_with_those_that_were_refused_in_its_call(run, relay):
    refused = [
        relay.shown("repayment", f"2026-10:L-{it}:5.00", f"L-{it}", "REJECTED", call_id="call-1", http_status=404)
        for it in (1, 2)
    ]
    other = relay.shown("repayment", "2026-10:L-3:5.00", "L-3", "REJECTED", call_id="call-2", http_status=404)
    relay.note(refused[0])
    relay.lists = {("repayment", "REJECTED"): [*refused, other]}
    relay.answers = [{"kind": "repayment", "submissions": refused}]

    ran = run("decide", "2026-10:L-1:5.00", "reopen", "--reason", "the address was wrong", typed="y\n")

    assert ran.exit_code == 0
    assert "Decided together: 2026-10:L-1:5.00, 2026-10:L-2:5.00\n" in ran.stderr
    assert relay.posted[0][1] == {"decision": "reopen", "reason": "the address was wrong"}


def test_a_row_that_was_refused_although_its_call_was_not_is_reopened_alone(run, relay):
    refused = [
        relay.shown("repayment", f"2026-10:L-{it}:5.00", f"L-{it}", "REJECTED", call_id="call-1") for it in (1, 2)
    ]
    relay.note(refused[0])
    relay.lists = {("repayment", "REJECTED"): refused}
    relay.answers = [refused[0]]

    ran = run("decide", "2026-10:L-1:5.00", "reopen", "--reason", "x", typed="y\n")

    assert "Decided together: 2026-10:L-1:5.00\n" in ran.stderr


@pytest.mark.parametrize("typed", ["n\n", "", "\n"])
def test_who_does_not_say_yes_decides_nothing(run, relay, undecided, typed):
    ran = run("decide", undecided, "abandon", "--reason", "x", typed=typed)

    assert ran.exit_code == 130
    assert relay.posted == []


@pytest.mark.parametrize(("typed", "code"), [("production\n", 0), ("y\n", 130), ("prod\n", 130)])
def test_at_kivas_production_that_word_is_typed(run, relay, stack, undecided, typed, code):
    stack.outputs["KivaEnvironment"] = "production"

    ran = run("decide", undecided, "abandon", "--reason", "x", "--stage", "prod", typed=typed)

    assert ran.exit_code == code
    assert len(relay.posted) == (code == 0)


def test_who_has_said_yes_is_not_asked_and_json_is_all_there_is(run, relay, undecided):
    arguments = ("accepted", "--kiva-reference", "90001", "--reason", "in PA2", "--yes", "--json")

    ran = run("decide", undecided, *arguments)

    assert len(json.loads(ran.stdout)["submissions"]) == 2
    assert relay.posted[0][1] == {"decision": "accepted", "kiva_reference": "90001", "reason": "in PA2"}
    assert ran.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("abandon",),
        ("perhaps", "--reason", "x"),
        ("accepted", "--reason", "x"),
        ("abandon", "--reason", "x", "--kiva-reference", "1"),
        ("abandon", "--reason", "x", "--except", "2026-10:L-2:5.00"),
        ("abandon", "--reason", "x", "--kind", "loan"),
    ],
)
def test_a_decision_that_cannot_be_meant_is_not_made(run, relay, undecided, arguments):
    assert run("decide", undecided, *arguments, "--yes").exit_code == 2
    assert relay.posted == []


def test_a_reference_of_two_kinds_or_of_a_message_names_no_submission(run, relay, submission):
    relay.note(relay.shown("loan_draft", "R7", "L-7", "UNKNOWN"))
    relay.note(relay.shown("repayment", "R7", "L-7", "UNKNOWN"))
    relay.known["repayment", "R8"] = [submission, submission]

    both, message = (run("decide", it, "abandon", "--reason", "x", "--yes") for it in ("R7", "R8"))

    assert (both.exit_code, message.exit_code) == (2, 2)
    assert "--kind" in both.stderr
    assert "one of them" in message.stderr


def test_a_decision_that_comes_too_early_is_refused_with_its_reason(run, relay, undecided):
    title, detail = "It cannot be decided now", "its call may still be under way; look again later"
    relay.answers = [Refused(409, {"title": title, "detail": detail})]

    ran = run("decide", undecided, "abandon", "--reason", "x", "--yes")

    assert ran.exit_code == 1
    assert ran.stderr == f"The relay does not do it: {title}: {detail}\n"


# --- dead letters and credentials -------------------------------------------------------------------------------------


def letters(*found, error=None):
    """What `redrive` of a queue gives."""

    def moved(stack, kind, limit):
        yield from found[:limit]
        if error:
            raise error

    return moved


FOUND = (Letter("id-1", "$.currency is missing", ""), Letter("id-2", "$ is too large", "too large for a queue"))


def test_redrive_says_what_was_moved_and_left(run, monkeypatch):
    monkeypatch.setattr(command, "put_back", letters(*FOUND))

    shown, one = (run("redrive", "loan_draft", "--yes", *more) for more in ((), ("--max", "1", "--json")))

    assert shown.exit_code == 0
    assert shown.stdout.endswith("1 moved, 1 left.\n")
    assert "$.currency is missing" in shown.stdout
    assert json.loads(one.stdout)["letters"] == [{"message_id": "id-1", "reason": "$.currency is missing", "left": ""}]


@pytest.mark.parametrize(
    ("error", "code"),
    [(ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "SendMessage"), 3), (KeyboardInterrupt(), 130)],
)
def test_redrive_says_how_far_it_came(run, monkeypatch, error, code):
    monkeypatch.setattr(command, "put_back", letters(*FOUND, error=error))

    ran = run("redrive", "loan_draft", "--yes")

    assert ran.exit_code == code
    assert "1 moved, 1 left." in ran.stdout
    assert ran.stderr


def dead(number, of="loan_draft", reason="$.currency is missing"):
    return DeadLetter(of, f"id-{number}", reason, "2026-11-20T08:00:00+00:00", "2026-12-04T08:00:00+00:00")


@pytest.fixture
def lying(monkeypatch):
    """Dead letters by what they are of; gives how they are told."""
    found = {"loan_draft": Found(3, [dead(1), dead(2), dead(3, reason="\x1b[31m it is too long")])}
    monkeypatch.setattr(command, "look", lambda stack, of, most=1000: found.get(of, Found(0, [])))
    return found


def test_redrive_shows_the_reasons_and_asks_before_it_moves(run, monkeypatch, lying, somebody):
    monkeypatch.setattr(command, "put_back", letters(*FOUND))

    no, yes = (run("redrive", "loan_draft", "--max", "2", typed=answer) for answer in ("n\n", "y\n"))

    assert no.exit_code == 130
    assert "moved" not in no.stdout
    assert "2 x $.currency is missing\n1 x ?[31m it is too long\n" in no.stderr
    assert "2 of 3\nDo it in a-stack?" in no.stderr
    assert "1 moved" in yes.stdout


def test_redrive_moves_nothing_where_nobody_can_be_asked(run, monkeypatch, lying):
    monkeypatch.setattr(command, "put_back", letters(error=AssertionError()))

    ran = run("redrive", "loan_draft")

    assert ran.exit_code == 2
    assert "--yes" in ran.stderr


def test_redrive_of_nothing_asks_nothing(run, lying):
    ran = run("redrive", "repayment")

    assert (ran.exit_code, ran.stderr) == (0, "There are no dead letters of repayment.\n")


def test_redrive_in_production_wants_more_than_a_keystroke(run, monkeypatch, lying, somebody, stack):
    stack.outputs["KivaEnvironment"] = "production"
    monkeypatch.setattr(command, "put_back", letters(*FOUND))

    assert run("redrive", "loan_draft", typed="y\n").exit_code == 130
    assert run("redrive", "loan_draft", typed="production\n").exit_code == 0


def test_deadletters_shows_reason_age_and_end_of_each_and_what_comes_next(run, lying):
    lying["outcomes"] = Found(1, [dead(4, "outcomes", "a row that cannot be read: KeyError")])

    ran = run("deadletters", "--stage", "prod")

    assert ran.exit_code == 1
    shown = squeezed(ran.stdout)
    assert "loan_draft id-1 $.currency is missing 2026-11-20 08:00 8 days 2026-12-04 08:00" in shown
    assert "outcomes id-4 a row that cannot be read: KeyError" in shown
    assert "Dead letters: 4 After a fix: relay redrive loan_draft --stage prod" in shown
    told = json.loads(run("deadletters", "loan_draft", "--json").stdout)
    assert told["counts"] == {"loan_draft": 3}
    assert told["letters"][0]["message_id"] == "id-1"


def test_deadletters_says_so_where_there_are_none_or_more_than_it_has_read(run, lying):
    none = run("deadletters", "repayment")
    assert (none.exit_code, none.stdout) == (0, "Dead letters: 0\n")
    lying["loan_draft"] = Found(2500, lying["loan_draft"].letters)
    assert "Dead letters: 2500, of which 3 are shown" in run("deadletters", "loan_draft").stdout


@pytest.mark.parametrize(
    "arguments", [(), ("loan_drafts",), ("loan_draft", "--max", "0"), ("loan_draft", "--max", "x")]
)
def test_redrive_wants_a_kind_and_a_number_above_zero(run, arguments):
    assert run("redrive", *arguments).exit_code == 2


WHERE = "arn:stored-here"


def test_credentials_are_stored_and_not_shown(run, stack, monkeypatch):
    put = []
    monkeypatch.setattr(command.getpass, "getpass", lambda prompt: "canary")
    stack.outputs["CredentialsSecretArn"] = WHERE
    stack.client = lambda service: SimpleNamespace(put_secret_value=lambda **given: put.append(given))

    ran = run("credentials", "--json")

    assert json.loads(ran.stdout) == {"stored_in": WHERE}
    assert "canary" in put[0]["SecretString"]
    assert "canary" not in ran.stdout + ran.stderr


def test_half_of_the_credentials_is_a_problem(run, stack, monkeypatch):
    monkeypatch.setattr(command.getpass, "getpass", lambda prompt: "")
    stack.outputs["CredentialsSecretArn"] = WHERE

    ran = run("credentials")

    assert ran.exit_code == 1
    assert "both values are needed" in ran.stderr


# --- all of them ------------------------------------------------------------------------------------------------------


def test_who_is_not_logged_in_is_told_so(run, monkeypatch):
    def stack_of(stage):
        raise NoCredentialsError

    monkeypatch.setattr(command, "stack_of", stack_of)

    ran = run("loans")

    assert ran.exit_code == 3
    assert ran.stderr == "AWS says: Unable to locate credentials\n"


def test_help_names_the_exit_codes_and_every_command(run):
    shown = run("--help").stdout

    for word in ("130: interrupted", "submit", "status", "list", "decide", "redrive", "loans", "check", "missing"):
        assert word in shown


@pytest.fixture
def in_ascii(run, monkeypatch):
    """Run it in a terminal that knows no arrow, bullet or accent."""
    monkeypatch.setenv("COLUMNS", "160")
    return lambda *arguments: CliRunner(charset="ascii").invoke(command.app, list(map(str, arguments)))


def test_in_a_terminal_that_lacks_a_character_it_is_printed_by_name(in_ascii, relay, submission):
    relay.lists["check"] = {"checks": [{"name": "kiva", "ok": False, "detail": "Sán José", "mend": "log in"}]}

    shown = in_ascii("check")

    assert shown.exit_code == 1
    assert r"\N{BALLOT X} kiva: S\N{LATIN SMALL LETTER A WITH ACUTE}n" in shown.stdout
    assert r"\N{RIGHTWARDS ARROW} log in" in shown.stdout


NAMES = [each.name or each.callback.__name__ for each in command.app.registered_commands]


@pytest.mark.parametrize("name", ["", *NAMES])
def test_every_help_is_printed_in_any_terminal(in_ascii, name):
    shown = in_ascii(*filter(None, [name.rstrip("_")]), "--help")

    assert (shown.exit_code, shown.exception) == (0, None)
    assert "Usage" in shown.stdout


def test_the_process_itself_prints_its_help_in_ascii():
    asked = [sys.executable, "-m", "cli", "--help"]
    told = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(sys.path)}

    done = subprocess.run(asked, env=told, capture_output=True, text=True, check=False)  # noqa: S603 it is our own

    assert (done.returncode, done.stderr) == (0, "")
    assert r"\N{BULLET} 130: interrupted" in done.stdout


def test_what_is_wrong_with_a_file_of_any_name_is_told_in_any_terminal(in_ascii, write):
    shown = in_ascii("submit", write("octobre-é→.csv", "loan_id,amount\nL-1,x\n"), "--period", "2026-10")

    assert shown.exit_code == 2
    assert r"\N{LATIN SMALL LETTER E WITH ACUTE}\N{RIGHTWARDS ARROW}.csv, line 2" in shown.stderr


def test_what_is_known_of_a_submission_is_shown_in_any_terminal(in_ascii, relay, submission):
    submission["reason"] = "Kiva → « no »"

    for asked in (["status", submission["reference"]], ["list", "--loan", "L-1"], ["loans"], ["status", "R-é"]):
        shown = in_ascii(*asked)
        assert shown.exit_code in (0, 1)
        assert (shown.stdout + shown.stderr).isascii()


def test_the_page_is_imported_only_where_it_is_opened(run, stack, monkeypatch):
    opened = []
    page = SimpleNamespace(serve=lambda *given, open_browser: opened.append((*given, open_browser)))
    monkeypatch.setitem(sys.modules, "cli.console", page)

    assert run("console", "--port", "8099", "--no-browser").exit_code == 0
    assert opened == [(stack, 8099, False)]


# --- stages -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a samconfig.toml, and the current one is below it."""
    (tmp_path / "below").mkdir()
    stage = '[{0}.global.parameters]\nregion = "af-south-1"\n[{0}.deploy.parameters]\nstack_name = "a-{0}"\n'
    every = '[default.global.parameters]\nregion = "x"\n' + stage.format("local") + stage.format("branch-nakuru")
    (tmp_path / "samconfig.toml").write_text(every)
    monkeypatch.chdir(tmp_path / "below")
    return tmp_path


def test_samconfig_is_found_in_the_folder_above(project):
    stack = stacks.stack_of("branch-nakuru")

    assert stack.name == "a-branch-nakuru"
    assert stack.session.region_name == "af-south-1"


def test_without_one_here_it_is_that_of_the_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert stacks.stages() == ["local", "stage", "prod"]
    assert stacks.stack_of("stage").name == "kiva-relay-stage"


def test_without_any_it_is_said_where_to_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stacks, "CHECKOUT", tmp_path)

    with pytest.raises(stacks.NoSuchStack, match=r"no samconfig\.toml here or above"):
        stacks.stack_of("stage")
    assert command._stages() == []


def test_a_stage_that_is_not_there_is_named_with_those_that_are(project):
    with pytest.raises(stacks.NoSuchStack, match="it has local, branch-nakuru"):
        stacks.stack_of("production")


def test_local_is_the_stack_that_make_up_keeps_running(project):
    with pytest.raises(stacks.NoSuchStack, match="make up"):
        stacks.stack_of("local")
    (project / ".local" / "stack").mkdir(parents=True)
    running = {"endpoint": "http://127.0.0.1:1", "api": "http://127.0.0.1:1/api"}
    (project / ".local" / "stack" / "stack.json").write_text(json.dumps(running))

    stack = stacks.stack_of("local")

    assert (stack.name, stack.api.url) == ("a-local", "http://127.0.0.1:1/api")


OF_ANOTHER_ACCOUNT = {
    "AWS_PROFILE": "nope",
    "AWS_DEFAULT_PROFILE": "nope",
    "AWS_CONFIG_FILE": "junk",
    "AWS_SHARED_CREDENTIALS_FILE": "junk",
    "AWS_CA_BUNDLE": "nowhere.pem",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:1",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_DEFAULTS_MODE": "odd",
    "AWS_RETRY_MODE": "odd",
    "AWS_MAX_ATTEMPTS": "odd",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "AKIDOFSOMEBODY",
    "AWS_SECRET_ACCESS_KEY": "s",
    "AWS_SESSION_TOKEN": "token-of-somebody",
    "HTTP_PROXY": "http://127.0.0.1:1",
}


@pytest.mark.parametrize("name", OF_ANOTHER_ACCOUNT)
def test_what_is_set_for_another_account_has_no_say_on_this_machine(name, monkeypatch, tmp_path):
    stacks.local_owner.cache_clear()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "junk").write_text("this is [no profile\n")
    monkeypatch.setenv(name, OF_ANOTHER_ACCOUNT[name])
    with HttpServer(say(answer(body=b"{}"))) as server:
        there = f"http://127.0.0.1:{server.port}"
        stack = stacks.local_stack("a-local", there, f"{there}/api", "af-south-1")

        stack.client("sqs").list_queues()
        stack.api.get("check")

    asked = [request.decode() for request in server.requests]
    assert len(asked) == 2
    assert all("Credential=test/" in each and "/af-south-1/" in each for each in asked)
    assert not any("somebody" in each.lower() for each in asked)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("relay loans --stage ", ["local", "branch-nakuru"]),
        ("relay list --kind ", ["loan_draft", "journal_update", "repayment"]),
        ("relay redrive ", ["loan_draft", "journal_update", "repayment"]),
        ("relay config ", ["activities", "locales", "themes", "locations"]),
    ],
)
def test_a_shell_completes_stages_and_kinds(project, typed, completed):
    asked = {"_RELAY_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": typed}

    shown = CliRunner().invoke(command.app, prog_name="relay", env=asked).stdout

    assert all(word in shown for word in completed)
