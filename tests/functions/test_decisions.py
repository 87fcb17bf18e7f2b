"""What people decide about what nobody can tell, through the console's route; and how it is sent again."""

import json
from importlib import import_module

import boto3
import pytest
import time_machine

from fakes import Context
from handlers import Function, repayments
from images import data_uri, png
from kiva_partner import runtime
from kiva_partner.decisions import SETTLING_SECONDS, parse_decision
from kiva_partner.errors import NotDecidable
from kiva_partner.ledger import Outcome, State
from kiva_partner.messages import Kind
from kiva_partner.payloads import Kept
from kiva_partner.relay import LEASE_MARGIN

ACCEPTED = {"decision": "accepted", "reason": "seen in PA2", "kiva_reference": "A-7"}
SEND_AGAIN = {"decision": "send-again", "reason": "not in PA2"}
ABANDON = {"decision": "abandon", "reason": "the loan was cancelled"}
KIVAS_NAMES = {Kind.LOAN_DRAFT: "loan_draft_uuid", Kind.JOURNAL_UPDATE: "archive_id", Kind.REPAYMENT: "upload_id"}
SETTLED = Context.seconds + LEASE_MARGIN + SETTLING_SECONDS + 2
"""Seconds after which a decision may be made about what was sent just now."""


@pytest.fixture
def time_passes():
    with time_machine.travel("2026-11-24T12:00:00Z", tick=False) as traveller:
        yield traveller.shift


@pytest.fixture
def unknown(time_passes, function, deployed, console):
    """A submission that was sent without an answer; nobody can be at work on it any more. Gives its path."""
    deployed.answers = [(500, {})]
    assert function.batch(function.message("L-1")) == []
    time_passes(SETTLED)
    _, found = console("/submissions", kind=function.kind.value, state="UNKNOWN")
    return f"/submissions/{function.kind}/{found['submissions'][0]['reference']}"


@pytest.fixture
def housekeeping(context):
    return lambda: import_module("housekeeping.app").handler({}, context)


@pytest.fixture
def deliver(function, waiting):
    """Deliver what lies in the queue; gives how many messages that were."""

    def run():
        bodies = [message["Body"] for message in waiting()]
        assert function.batch(*bodies) == []
        return len(bodies)

    return run


def kept():
    return [found["Key"] for found in boto3.client("s3").list_objects_v2(Bucket="payloads").get("Contents", [])]


def test_what_kiva_has_is_accepted_with_its_reference(function, unknown, console, housekeeping):
    assert len(kept()) == 1
    status, body = console(f"{unknown}/decision", ACCEPTED)
    assert (status, body["state"]) == (200, "ACCEPTED")
    assert body["kiva"] == {KIVAS_NAMES[function.kind]: "A-7"}
    assert console(unknown)[1]["decisions"] == [
        {
            "decision": "accepted",
            "reason": "seen in PA2",
            "by": "arn:aws:iam::000000000000:user/wanjiku",
            "at": "2026-11-24T12:20:22+00:00",
            "kiva_reference": "A-7",
        }
    ]
    assert housekeeping()["forgotten"] == 1
    assert kept() == []


def test_what_is_abandoned_is_not_sent_and_its_reference_may_be_used_again(drafts, time_passes, deployed, console):
    deployed.answers = [(500, {})]
    drafts.batch(drafts.message("L-1"))
    time_passes(SETTLED)
    status, body = console("/submissions/loan_draft/L-1/decision", ABANDON)
    assert (status, body["state"], body["next_step"]) == (200, "ABANDONED", "nothing: it was given up")
    drafts.batch(drafts.message("L-1"))
    assert len(deployed.sent) == 1
    drafts.batch(drafts.message("L-1", loanuse="to buy seed"))
    assert console("/submissions/loan_draft/L-1")[1]["state"] == "ACCEPTED"


def test_what_kiva_has_not_is_sent_again_exactly_as_it_was_without_the_producer(
    unknown, deployed, console, housekeeping, deliver
):
    status, body = console(f"{unknown}/decision", SEND_AGAIN)
    assert (status, body["state"]) == (200, "RETRY")
    assert deliver() == 0
    assert housekeeping()["requeued"] == 1
    assert deliver() == 1
    done = housekeeping()
    assert (done["requeued"], done["forgotten"]) == (0, 1)
    first, second = deployed.sent
    assert first == second
    assert console(unknown)[1]["state"] == "ACCEPTED"
    assert kept() == []


def test_a_copy_of_the_event_may_come_before_the_message_of_a_send_again(
    function, unknown, deployed, console, housekeeping, deliver
):
    console(f"{unknown}/decision", SEND_AGAIN)
    function.batch(function.message("L-1"))
    assert console(unknown)[1]["state"] == "ACCEPTED"
    assert (housekeeping()["requeued"], deliver(), len(deployed.sent)) == (0, 0, 2)
    assert kept() == []


def test_a_pointer_that_comes_after_its_payload_was_forgotten_is_settled(
    function, unknown, console, housekeeping, waiting
):
    console(f"{unknown}/decision", SEND_AGAIN)
    housekeeping()
    (message,) = waiting()
    function.batch(message["Body"])
    housekeeping()
    assert function.batch(message["Body"]) == []
    assert waiting("dead letters") == []


def test_a_payload_that_somebody_deleted_is_told_to_a_person(
    function, unknown, deployed, console, housekeeping, waiting
):
    console(f"{unknown}/decision", SEND_AGAIN)
    housekeeping()
    (message,) = waiting()
    boto3.client("s3").delete_object(Bucket="payloads", Key=kept()[0])
    assert function.batch(message["Body"]) == []
    (letter,) = waiting("dead letters")
    assert "send the event once more" in letter["MessageAttributes"]["Reason"]["StringValue"]
    function.batch(function.message("L-1"))
    assert console(unknown)[1]["state"] == "ACCEPTED"


def test_a_pointer_delivered_twice_sends_once(function, unknown, deployed, console, housekeeping, waiting):
    console(f"{unknown}/decision", SEND_AGAIN)
    housekeeping()
    (message,) = waiting()
    assert function.batch(message["Body"], message["Body"]) == []
    assert function.batch(message["Body"]) == []
    assert len(deployed.sent) == 2
    assert waiting("dead letters") == []


def test_a_pointer_in_the_queue_of_another_kind_is_a_dead_letter(function, unknown, waiting):
    (key,) = kept()
    other = Function(next(kind for kind in Kind if kind is not function.kind), Context())
    assert other.batch(Kept.at(key).pointer) == []
    (letter,) = waiting("dead letters")
    assert letter["MessageAttributes"]["Reason"]["StringValue"] == f"$.kept: is no {other.kind}"


def test_sent_again_without_an_answer_it_waits_for_a_decision_once_more(
    unknown, deployed, console, housekeeping, deliver, time_passes
):
    console(f"{unknown}/decision", SEND_AGAIN)
    deployed.answers = [(500, {})]
    housekeeping()
    deliver()
    body = console(unknown)[1]
    assert (body["state"], body["attempts"]) == ("UNKNOWN", 2)
    assert len(kept()) == 1
    assert console(f"{unknown}/decision", SEND_AGAIN)[0] == 409
    time_passes(SETTLED)
    assert console(f"{unknown}/decision", SEND_AGAIN)[0] == 200
    housekeeping()
    deliver()
    assert [each["decision"] for each in console(unknown)[1]["decisions"]] == ["send-again", "send-again"]
    assert len(deployed.sent) == 3


@pytest.mark.parametrize("decision", [ACCEPTED, SEND_AGAIN, ABANDON], ids=lambda it: it["decision"])
def test_nothing_is_decided_while_a_sender_or_a_gateway_may_be_at_work(
    drafts, time_passes, deployed, console, decision
):
    deployed.answers = [(500, {})]
    drafts.batch(drafts.message("L-1"))
    time_passes(SETTLED - 100)
    status, body = console("/submissions/loan_draft/L-1/decision", decision)
    assert (status, body["type"]) == (409, "urn:kiva-relay:problem:not-decidable")
    assert console("/submissions/loan_draft/L-1")[1]["state"] == "UNKNOWN"


def test_only_what_is_unknown_waits_for_a_decision(drafts, time_passes, console):
    drafts.batch(drafts.message("L-1"))
    time_passes(SETTLED)
    status, body = console("/submissions/loan_draft/L-1/decision", ABANDON)
    assert (status, body["detail"]) == (409, "it is ACCEPTED: only what is UNKNOWN waits for this decision")


def test_of_two_decisions_the_first_holds(unknown, console):
    assert console(f"{unknown}/decision", ABANDON)[0] == 200
    assert console(f"{unknown}/decision", SEND_AGAIN)[0] == 409
    assert console(unknown)[1]["state"] == "ABANDONED"


@pytest.mark.parametrize("second", [ACCEPTED, ABANDON, SEND_AGAIN], ids=lambda it: it["decision"])
def test_of_two_people_who_decide_at_once_one_is_told_and_nothing_is_lost(
    function, unknown, deployed, console, housekeeping, deliver, monkeypatch, second
):
    """Both have read that it is UNKNOWN; the other one is a moment quicker."""
    kind, reference = unknown.split("/")[2:]
    read = runtime.ledger().read(Kind(kind), reference)
    console(f"{unknown}/decision", SEND_AGAIN)
    with pytest.raises(NotDecidable, match="a moment ago"):
        runtime.decisions().decide(read, parse_decision(json.dumps(second)), "somebody else")
    housekeeping()
    deliver()
    body = console(unknown)[1]
    assert (body["state"], len(body["decisions"]), len(deployed.sent)) == ("ACCEPTED", 1, 2)


def test_what_was_never_sent_cannot_be_decided(console):
    assert console("/submissions/loan_draft/L-1/decision", ABANDON)[0] == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("", "$"),
        ({"decision": "perhaps", "reason": "x"}, "$.decision"),
        ({"decision": "abandon"}, "$.reason"),
        ({"decision": "abandon", "reason": "a\nb"}, "$.reason"),
        ({"decision": "abandon", "reason": "x" * 201}, "$.reason"),
        ({"decision": "accepted", "reason": "x"}, "$.kiva_reference"),
        ({**ABANDON, "kiva_reference": "A-7"}, "$.kiva_reference"),
        ({**ACCEPTED, "kiva_reference": "no such\nthing"}, "$.kiva_reference"),
        ({**ABANDON, "by": "somebody else"}, "$.by"),
    ],
    ids=str,
)
def test_a_decision_that_is_none_names_the_field_and_changes_nothing(unknown, console, body, field):
    status, answer = console(f"{unknown}/decision", body)
    assert (status, answer["errors"][0]["field"]) == (400, field)
    assert console(unknown)[1]["state"] == "UNKNOWN"


def test_what_went_in_one_call_is_decided_together_and_nothing_else(reports, time_passes, deployed, console):
    rows = [{"loan_id": f"L-{number}", "client_id": "C", "amount": 1} for number in range(3)]
    deployed.answers = [(500, {}), (500, {})]
    reports.batch({"period": "2026-10", "repayments": rows})
    reports.batch(repayments("L-other"))
    time_passes(SETTLED)
    status, body = console("/submissions/repayment/2026-10:L-1:1.00/decision", ACCEPTED)
    assert (status, body["states"]) == (200, {"ACCEPTED": 3})
    assert {each["kiva"]["upload_id"] for each in body["submissions"]} == {"A-7"}
    assert console("/submissions/repayment/2026-10:L-other:100.50")[1]["state"] == "UNKNOWN"


def test_what_a_dead_sender_had_in_one_call_is_decided_together(
    reports, time_passes, deployed, console, housekeeping, monkeypatch
):
    rows = [{"loan_id": f"L-{number}", "client_id": "C", "amount": 1} for number in range(3)]
    deployed.while_posting = lambda: (_ for _ in ()).throw(SystemExit)
    with pytest.raises(SystemExit):
        reports.batch({"period": "2026-10", "repayments": rows})
    time_passes(SETTLED)
    assert housekeeping()["claims_expired"] == 3
    status, body = console("/submissions/repayment/2026-10:L-1:1.00/decision", ABANDON)
    assert (status, body["states"]) == (200, {"ABANDONED": 3})


def test_what_is_not_kept_cannot_be_sent_again_until_its_event_was_sent_once_more(
    function, time_passes, deployed, console, housekeeping, deliver
):
    deployed.while_posting = lambda: (_ for _ in ()).throw(SystemExit)
    with pytest.raises(SystemExit):
        function.batch(function.message("L-1"))
    deployed.while_posting = lambda: None
    time_passes(SETTLED)
    housekeeping()
    _, found = console("/submissions", kind=function.kind.value, state="UNKNOWN")
    path = f"/submissions/{function.kind}/{found['submissions'][0]['reference']}"
    status, body = console(f"{path}/decision", SEND_AGAIN)
    assert status == 409
    assert body["detail"] == "1 of 1 are not kept here: send the event once more, then decide again"
    assert console(path)[1]["state"] == "UNKNOWN"
    function.post(function.message("L-1"))
    deliver()
    assert len(deployed.sent) == 1
    assert console(f"{path}/decision", SEND_AGAIN)[0] == 200
    housekeeping()
    deliver()
    assert console(path)[1]["state"] == "ACCEPTED"


def test_the_log_says_who_decided_what_and_not_why(unknown, console, caplog, capsys):
    console(f"{unknown}/decision", {**ABANDON, "reason": "canary reason"})
    (line,) = [vars(record) for record in caplog.records if record.message == "decision"]
    assert (line["decision"], line["by"]) == ("abandon", "arn:aws:iam::000000000000:user/wanjiku")
    assert unknown == f"/submissions/{line['kind']}/{line['reference']}"
    assert "canary" not in str(line) + capsys.readouterr().out


# --- by the policy of a kind, and by proof ------------------------------------------------------------------------


@pytest.fixture
def resend(function, monkeypatch):
    monkeypatch.setenv(f"{function.kind.upper()}_UNKNOWN_POLICY", "resend")
    runtime.forget()


def test_where_the_policy_is_to_hold_nothing_is_sent_again(unknown, housekeeping, console):
    assert housekeeping()["sent_again"] == 0
    assert console(unknown)[1]["state"] == "UNKNOWN"


def test_where_the_policy_is_to_resend_it_goes_again_after_the_settling_time(
    resend, unknown, housekeeping, console, deliver, deployed
):
    assert housekeeping()["sent_again"] == 1
    assert housekeeping()["requeued"] == 1
    assert deliver() == 1
    body = console(unknown)[1]
    assert (body["state"], body["decisions"][0]["by"]) == ("ACCEPTED", "policy")
    assert len(deployed.sent) == 2


def test_the_policy_decides_each_submission_once(reports, time_passes, deployed, monkeypatch, housekeeping, waiting):
    monkeypatch.setenv("REPAYMENT_UNKNOWN_POLICY", "resend")
    runtime.forget()
    deployed.answers = [(500, {})]
    reports.batch(*(repayments(f"L-{number}") for number in range(5)))
    time_passes(SETTLED)
    assert housekeeping()["sent_again"] == 5
    assert housekeeping()["requeued"] == 5
    assert len(waiting()) == 5


def test_the_policy_does_not_send_while_the_settling_time_runs(function, resend, time_passes, deployed, housekeeping):
    deployed.answers = [(500, {})]
    function.batch(function.message("L-1"))
    time_passes(SETTLED - 100)
    assert housekeeping()["sent_again"] == 0


def test_after_three_attempts_a_person_is_asked_after_all(
    resend, unknown, housekeeping, console, deliver, deployed, time_passes
):
    for _ in range(4):
        deployed.answers = [(500, {})]
        housekeeping()
        housekeeping()
        deliver()
        time_passes(SETTLED)
    assert console(unknown)[1]["state"] == "UNKNOWN"
    assert len(deployed.sent) == 3


def loan(**changes):
    return {
        "kiva_id": "2514321",
        "uuid": "0f6e",
        "internal_loan_id": "L-1",
        "internal_client_id": "C-1",
        "create_time": 1_795_521_700,  # a moment after the draft was sent
        **changes,
    }


@pytest.fixture
def lost_draft(time_passes, drafts, deployed):
    """A draft without an answer, whose settling time still runs."""
    deployed.answers = [(500, {})]
    drafts.batch(drafts.message("L-1"))
    time_passes(60)


def test_a_draft_that_is_found_at_kiva_was_accepted(lost_draft, deployed, housekeeping, console):
    deployed.loans = [loan()]
    assert housekeeping()["proved"] == 1
    body = console("/submissions/loan_draft/L-1")[1]
    assert (body["state"], body["kiva"]) == ("ACCEPTED", {"kiva_id": "2514321", "loan_uuid": "0f6e"})
    assert kept() == []


def test_what_a_late_answer_of_the_sender_proves_is_forgotten_too(lost_draft, deployed, housekeeping, console):
    ledger = runtime.ledger()
    row = ledger.read(Kind.LOAN_DRAFT, "L-1")
    assert len(kept()) == 1
    ledger.settle([(row, Outcome(State.ACCEPTED, kiva={"loan_draft_uuid": "late"}))], row.owner)
    housekeeping()
    assert console("/submissions/loan_draft/L-1")[1]["state"] == "ACCEPTED"
    assert kept() == []


@pytest.mark.parametrize(
    "other",
    [
        loan(internal_loan_id="L-11", name="L-1"),
        loan(internal_client_id="C-2"),
        loan(create_time=1_795_500_000),
        loan(create_time=None),
        loan(create_time="2026"),
    ],
    ids=["another loan", "another client", "an older loan", "no time", "an unreadable time"],
)
def test_another_loan_proves_nothing(lost_draft, deployed, housekeeping, console, other):
    deployed.loans = [other]
    assert housekeeping()["proved"] == 0
    assert console("/submissions/loan_draft/L-1")[1]["state"] == "UNKNOWN"


def test_milliseconds_are_understood(lost_draft, deployed, housekeeping):
    deployed.loans = [loan(create_time=1_795_521_700_000)]
    assert housekeeping()["proved"] == 1


def test_absence_proves_nothing(lost_draft, deployed, housekeeping, console, time_passes):
    for _ in range(3):
        time_passes(300)
        assert housekeeping()["proved"] == 0
    assert deployed.reads == 3
    assert console("/submissions/loan_draft/L-1")[1]["state"] == "UNKNOWN"


def test_after_an_hour_it_is_looked_for_once_an_hour(lost_draft, deployed, housekeeping, time_passes):
    time_passes(3600)
    for _ in range(24):
        time_passes(300)
        housekeeping()
    assert deployed.reads == 2


def test_while_kiva_does_not_answer_the_rest_of_housekeeping_is_done(lost_draft, deployed, housekeeping, time_passes):
    deployed.read_status = 503
    assert housekeeping()["proved"] == 0
    assert deployed.reads == 1


def test_a_draft_sent_with_a_photo_is_sent_again_with_it(drafts, time_passes, deployed, console, housekeeping, waiting):
    photo = {"image_encoded": data_uri(png())}
    deployed.answers = [(500, {})]
    drafts.batch(drafts.message("L-1", **photo))
    time_passes(SETTLED)
    console("/submissions/loan_draft/L-1/decision", SEND_AGAIN)
    housekeeping()
    (message,) = waiting()
    Function(Kind.LOAN_DRAFT, Context()).batch(message["Body"])
    first, second = deployed.sent
    assert second == first
    assert second[1]["image_encoded"] == photo["image_encoded"]


def test_nothing_personal_is_in_the_queue_or_in_the_ledger(unknown, console, housekeeping, waiting, table):
    console(f"{unknown}/decision", SEND_AGAIN)
    housekeeping()
    (message,) = waiting()
    rows = json.dumps(table.scan(TableName="ledger")["Items"])
    assert "canary" not in (message["Body"] + rows).lower()
    assert State.RETRY in rows
