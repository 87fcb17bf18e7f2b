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
from kiva_partner.ledger import Ledger, Outcome, State
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


def test_a_decision_that_comes_too_early_says_when_it_will_be_possible(time_passes, drafts, deployed, console):
    deployed.answers = [(500, {})]
    drafts.batch(drafts.message("L-1"))
    time_passes(300)
    status, body = console("/submissions/loan_draft/L-1/decision", ABANDON)
    assert status == 409
    # A claim lasts for the invocation's 290 s and 30 s more, and 15 minutes go by after it.
    assert body["detail"] == (
        "its call may still be under way; it can be decided from 2026-11-24 12:21 UTC on, in 16 min"
    )


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
    assert (status, body["detail"]) == (409, "it is ACCEPTED: only what is UNKNOWN or STUCK waits for this decision")


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


# --- a call that Kiva has, but not with all of its rows --------------------------------------------------------------


def report(*loans):
    rows = [{"loan_id": loan, "client_id": "C-1", "amount": 5} for loan in loans]
    return {"period": "2026-10", "repayments": rows}


@pytest.fixture
def doubtful(deployed, time_passes, context):
    """An upload that Kiva has, with a refusal that fits none of its rows; its references."""
    reports = Function(Kind.REPAYMENT, context)
    problem = {"loan_id": "L-99", "severity": "error", "code": "x", "details": "No loan with this id"}
    deployed.answers = [(200, {"upload_id": 7, "problems": [problem]})]
    assert reports.batch(report("L-1", "L-2", "L-3")) == []
    time_passes(SETTLED)
    return [f"2026-10:L-{number}:5.00" for number in (1, 2, 3)]


def test_what_kiva_found_and_made_is_shown_with_a_call_that_nobody_can_tell_of(doubtful, console):
    (call,) = console("/waiting")[1]["unknown"]
    assert (call["rows"], call["kiva_reference"], call["look_for"]) == (3, "7", "upload 7")
    for row in call["submissions"]:
        assert row["kiva"] == {"upload_id": "7"}
        assert row["problems"] == [
            {"severity": "error", "code": "x", "details": "No loan with this id", "loan_id": "L-99"}
        ]


def test_one_decision_accepts_all_rows_of_a_call_except_those_that_it_names(doubtful, console):
    first, second, third = doubtful
    decision = {"decision": "accepted", "reason": "seen", "kiva_reference": "7", "except": [second]}
    status, body = console(f"/submissions/repayment/{third}/decision", decision)
    assert (status, body["states"]) == (200, {"ACCEPTED": 2, "REJECTED": 1})
    states = {each: console(f"/submissions/repayment/{each}")[1] for each in doubtful}
    assert [it["state"] for it in states.values()] == ["ACCEPTED", "REJECTED", "ACCEPTED"]
    assert all(it["kiva"] == {"upload_id": "7"} and it["problems"] for it in states.values())
    assert states[first]["decisions"][0]["except"] == "1 of its call"


@pytest.mark.parametrize("stranger", ["2026-10:L-4:5.00", "", "L-1"])
def test_only_rows_of_the_call_can_be_excepted(doubtful, console, stranger):
    decision = {"decision": "accepted", "reason": "seen", "kiva_reference": "7", "except": [doubtful[0], stranger]}
    status, body = console(f"/submissions/repayment/{doubtful[0]}/decision", decision)
    assert (status, body["errors"][0]["field"]) == (400, "$.except[1]")
    assert console(f"/submissions/repayment/{doubtful[0]}")[1]["state"] == "UNKNOWN"


@pytest.mark.parametrize("decision", [SEND_AGAIN, ABANDON])
def test_only_what_is_accepted_has_exceptions(doubtful, console, decision):
    status, body = console(f"/submissions/repayment/{doubtful[0]}/decision", {**decision, "except": doubtful[:1]})
    assert (status, body["errors"][0]["field"]) == (400, "$.except")


@pytest.mark.parametrize("none", ["0", "00000000-0000-0000-0000-000000000000", "undefined", "null", "none"])
def test_what_is_no_id_of_kivas_is_not_taken_from_a_person_either(unknown, console, none):
    status, body = console(f"{unknown}/decision", {**ACCEPTED, "kiva_reference": none})
    assert (status, body["errors"][0]["field"]) == (400, "$.kiva_reference")


def test_an_id_that_proves_another_call_is_not_taken_from_a_person_either(doubtful, deployed, console, context):
    reports = Function(Kind.REPAYMENT, context)
    deployed.answers = [(200, {"upload_id": 8})]
    reports.batch(report("L-9"))
    path = f"/submissions/repayment/{doubtful[0]}/decision"
    status, body = console(path, {"decision": "accepted", "reason": "seen", "kiva_reference": "8"})
    assert (status, body["detail"]) == (
        409, "this id of Kiva's proves another call already: look in PA2 which it is of"
    )  # fmt: skip
    assert console(path, {"decision": "accepted", "reason": "seen", "kiva_reference": "7"})[0] == 200


# --- what was refused, with nothing wrong --------------------------------------------------------------------------

REOPEN = {"decision": "reopen", "reason": "the location is there now"}


def test_what_was_refused_is_sent_once_more_when_its_event_is_sent_again_after_a_person_said_so(
    drafts, deployed, console
):
    deployed.answers = [(400, {"message": "no such location"})]
    drafts.batch(drafts.message("L-1"))
    drafts.batch(drafts.message("L-1"))
    assert len(deployed.sent) == 1
    status, body = console("/submissions/loan_draft/L-1/decision", REOPEN)
    assert (status, body["state"], body["reopened"]) == (200, "REJECTED", True)
    assert body["next_step"] == "send the event again: it was reopened"
    assert len(deployed.sent) == 1
    drafts.batch(drafts.message("L-1"))
    assert console("/submissions/loan_draft/L-1")[1]["state"] == "ACCEPTED"
    assert len(deployed.sent) == 2


def test_what_was_reopened_may_come_by_the_api(drafts, deployed, console, waiting):
    deployed.answers = [(400, {})]
    drafts.batch(drafts.message("L-1"))
    console("/submissions/loan_draft/L-1/decision", REOPEN)
    assert drafts.post(drafts.message("L-1"))[0] == 202
    assert len(waiting()) == 1


def test_a_call_that_was_refused_around_midnight_is_reopened_whole(deployed, console, context, monkeypatch):
    with time_machine.travel("2026-11-24T23:59:59.9Z", tick=False) as time:
        deployed.answers = [(404, {})]
        settle = Ledger.settle

        def in_two_days(ledger, outcomes, owner):
            first = settle(ledger, outcomes[:1], owner)
            time.shift(1)
            return [*first, *settle(ledger, outcomes[1:], owner)]

        monkeypatch.setattr(Ledger, "settle", in_two_days)
        Function(Kind.REPAYMENT, context).batch(report("L-8", "L-9"))
        assert console("/submissions/repayment/2026-10:L-9:5.00/decision", REOPEN)[1]["states"] == {"REJECTED": 2}


def test_what_kiva_refused_as_a_call_is_reopened_as_a_call_and_a_refused_row_alone(deployed, console, context):
    reports = Function(Kind.REPAYMENT, context)
    problems = [{"loan_id": loan, "severity": "error"} for loan in ("L-1", "L-2")]
    deployed.answers = [(404, {}), (200, {"upload_id": 7, "problems": problems})]
    reports.batch(report("L-8", "L-9"))
    reports.batch(report("L-1", "L-2"))
    assert console("/submissions/repayment/2026-10:L-8:5.00/decision", REOPEN)[1]["states"] == {"REJECTED": 2}
    assert console("/submissions/repayment/2026-10:L-1:5.00/decision", REOPEN)[1]["reference"] == "2026-10:L-1:5.00"
    assert "reopened" not in console("/submissions/repayment/2026-10:L-2:5.00")[1]


def test_a_refusal_that_says_nothing_of_the_content_says_what_to_do(drafts, deployed, console):
    deployed.answers = [(404, {"message": "not here"})]
    drafts.batch(drafts.message("L-1"))
    body = console("/submissions/loan_draft/L-1")[1]
    assert body["reason"] == "Kiva refused it with HTTP 404: not here"
    assert body["next_step"].startswith("nothing may be wrong with it")


@pytest.mark.parametrize(("answer", "state"), [((200, None), "ACCEPTED"), ((500, {}), "UNKNOWN")])
def test_only_what_was_refused_can_be_reopened(drafts, deployed, console, time_passes, answer, state):
    deployed.answers = [answer] if answer[1] is not None else []
    drafts.batch(drafts.message("L-1"))
    time_passes(SETTLED)
    status, body = console("/submissions/loan_draft/L-1/decision", REOPEN)
    assert (status, body["detail"]) == (409, f"it is {state}: only what is REJECTED can be reopened")


def test_reopening_twice_says_that_it_is_done(drafts, deployed, console):
    deployed.answers = [(400, {})]
    drafts.batch(drafts.message("L-1"))
    console("/submissions/loan_draft/L-1/decision", REOPEN)
    assert console("/submissions/loan_draft/L-1/decision", REOPEN)[0] == 409
