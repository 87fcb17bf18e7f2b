"""A submission whose message comes no more waits for a person, who is told; what comes after all still claims it."""

import json
from datetime import UTC, datetime, timedelta
from importlib import import_module

import boto3
import pytest
import time_machine

from handlers import Function, repayments
from images import png
from kiva_partner import runtime
from kiva_partner.housekeeping import RETENTION_SECONDS
from kiva_partner.ledger import Ledger, State
from kiva_partner.messages import Kind
from kiva_partner.queues import MOST_RECEIVES

LAST = MOST_RECEIVES
ABANDON = {"decision": "abandon", "reason": "the borrower has withdrawn"}
PHOTO = {"photo": {"s3_key": "photos/of-nobody.png"}}


@pytest.fixture
def housekeeping(deployed, context):
    return lambda: import_module("housekeeping.app").handler({}, context)


@pytest.fixture
def rows(console):
    """Every submission of a loan as (state, reason)."""

    def read(loan="L-1"):
        found = console("/submissions", loan_id=loan)[1]["submissions"]
        return [(each["state"], each.get("reason", "")) for each in found]

    return read


@pytest.fixture
def path(console):
    """The path of the only submission of a loan."""

    def find(loan="L-1"):
        (found,) = console("/submissions", loan_id=loan)[1]["submissions"]
        return f"/submissions/{found['kind']}/{found['reference']}"

    return find


def reason_of(letter):
    return letter["MessageAttributes"]["Reason"]["StringValue"]


def photo(key="photos/of-nobody.png"):
    boto3.client("s3").put_object(Bucket="payloads", Key=key, Body=png())


# --- code can never take its message ------------------------------------------------------------------------------


@pytest.fixture
def dead_letter(drafts, waiting):
    """A draft that was queued by the API, and whose photo is in no bucket when the queue delivers it."""
    photo()
    drafts.post(drafts.message("L-1", **PHOTO))
    boto3.client("s3").delete_object(Bucket="payloads", Key="photos/of-nobody.png")
    (message,) = waiting()
    assert drafts.batch(message["Body"]) == []
    (letter,) = waiting("dead letters")
    return letter


def test_a_row_whose_message_is_a_dead_letter_is_stuck_and_says_why(dead_letter, console):
    told = "$.photo.s3_key: names no object of the payload bucket"
    status, body = console("/submissions/loan_draft/L-1")
    assert (status, body["state"], body["reason"]) == (200, "STUCK", f"its message is a dead letter: {told}")
    assert "relay redrive loan_draft" in body["next_step"]
    assert reason_of(dead_letter) == f"L-1: {told}"


def test_it_is_counted_and_named_in_the_log(drafts, deployed, capsys, caplog):
    deployed.answers = [(429, {})]
    drafts.batch(drafts.message("L-1"), delivery=LAST)
    assert '"SubmissionStuck":[1.0]' in capsys.readouterr().out
    (line,) = [vars(record) for record in caplog.records if record.message == "stuck"]
    assert (line["kind"], line["reference"]) == ("loan_draft", "L-1")


def test_redriven_after_the_fix_it_goes_to_kiva_once(dead_letter, drafts, deployed, rows):
    photo()
    assert drafts.batch(dead_letter["Body"], dead_letter["Body"]) == []
    assert rows() == [("ACCEPTED", "")]
    assert len(deployed.sent) == 1


def test_the_event_posted_again_is_queued_again_and_not_answered_as_if_it_stood(
    dead_letter, drafts, deployed, waiting, rows
):
    photo()
    status, body, _ = drafts.post(drafts.message("L-1", **PHOTO))
    assert (status, body["state"], body["next_step"]) == (202, "QUEUED", "nothing: it is sent by itself")
    (message,) = waiting()
    drafts.batch(message["Body"])
    assert rows() == [("ACCEPTED", "")]
    assert len(deployed.sent) == 1


def test_who_waits_for_the_answer_sends_it_at_once(dead_letter, drafts, rows):
    photo()
    assert drafts.post(drafts.message("L-1", **PHOTO), Prefer="wait")[0] == 200
    assert rows() == [("ACCEPTED", "")]


def test_a_redrive_before_the_fix_leaves_it_stuck_with_another_letter(dead_letter, drafts, waiting, rows):
    drafts.batch(dead_letter["Body"])
    assert [state for state, _ in rows()] == ["STUCK"]
    assert len(waiting("dead letters")) == 1


def test_other_content_under_its_reference_is_refused_until_it_is_abandoned(dead_letter, drafts, console, waiting):
    other = drafts.message("L-1", loanuse="to buy seed")
    status, body, _ = drafts.post(other)
    assert (status, body["references"]) == (409, ["L-1"])
    assert "abandon it" in body["detail"]
    drafts.batch(other)
    assert "which is STUCK; abandon that, or use a new reference" in reason_of(waiting("dead letters")[0])
    assert console("/submissions/loan_draft/L-1/decision", ABANDON)[1]["state"] == "ABANDONED"
    assert drafts.post(other, Prefer="wait")[1]["state"] == "ACCEPTED"


def test_the_conflict_of_one_row_leaves_the_others_as_they_are(reports, deployed, waiting, rows):
    def report(*amounts):
        rows = [{"loan_id": f"L-{number}", "client_id": "C", "amount": it} for number, it in enumerate(amounts)]
        return {"reference": "R7", "repayments": rows}

    deployed.answers = [(429, {})]
    assert reports.batch(report(1)) == ["m0"]
    assert reports.batch(report(2, 2)) == []
    assert "R7:L-0: its reference belongs to other content" in reason_of(waiting("dead letters")[0])
    assert [state for state, _ in rows("L-0")] == ["RETRY"]
    assert [state for state, _ in rows("L-1")] == ["ACCEPTED"]


def test_a_pointer_to_what_somebody_deleted_leaves_its_row_stuck_and_the_event_ends_it(
    function, deployed, console, housekeeping, waiting, rows, path, time_passes
):
    deployed.answers = [(500, {})]
    function.batch(function.message("L-1"))
    time_passes(2000)
    console(f"{path()}/decision", {"decision": "send-again", "reason": "not in PA2"})
    housekeeping()
    (message,) = waiting()
    s3 = boto3.client("s3")
    (kept,) = s3.list_objects_v2(Bucket="payloads")["Contents"]
    s3.delete_object(Bucket="payloads", Key=kept["Key"])
    function.batch(message["Body"])
    ((state, reason),) = rows()
    assert state == "STUCK"
    assert "send the event once more" in reason
    function.batch(function.message("L-1"))
    assert rows() == [("ACCEPTED", "")]


def test_without_a_dead_letter_nothing_is_called_stuck(drafts, queue_urls, waiting, rows):
    photo()
    drafts.post(drafts.message("L-1", **PHOTO))
    boto3.client("s3").delete_object(Bucket="payloads", Key="photos/of-nobody.png")
    boto3.client("sqs").delete_queue(QueueUrl=queue_urls[1])
    assert drafts.batch(waiting()[0]["Body"]) == ["m0"]
    assert rows() == [("QUEUED", "")]


def test_a_ledger_that_does_not_answer_keeps_no_letter_from_being_written(
    drafts, waiting, rows, housekeeping, monkeypatch, time_passes
):
    """The row says later what it could not be told; its message is safe."""
    photo()
    drafts.post(drafts.message("L-1", **PHOTO))
    boto3.client("s3").delete_object(Bucket="payloads", Key="photos/of-nobody.png")
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "mark_stuck", lambda *_: 1 / 0)
        assert drafts.batch(waiting()[0]["Body"]) == []
    assert len(waiting("dead letters")) == 1
    assert rows() == [("QUEUED", "")]
    time_passes(RETENTION_SECONDS + 1)
    assert housekeeping()["stuck"] == 1


def test_a_message_that_never_had_a_row_is_a_dead_letter_alone(drafts, waiting, rows):
    assert drafts.batch(drafts.message("L-1", **PHOTO)) == []
    assert len(waiting("dead letters")) == 1
    assert rows() == []


# --- its message was delivered for the last time ------------------------------------------------------------------


def test_after_its_last_delivery_it_is_a_dead_letter_that_says_what_kept_it(function, deployed, waiting, rows):
    deployed.answers = [(429, {})] * 2
    assert function.batch(function.message("L-1"), delivery=LAST - 1) == ["m0"]
    assert [state for state, _ in rows()] == ["RETRY"]
    assert function.batch(function.message("L-1"), delivery=LAST) == []
    (letter,) = waiting("dead letters")
    told = "it was received 100 times; the last time: Kiva asks to come later: HTTP 429"
    assert reason_of(letter).startswith(told)
    ((state, reason),) = rows()
    assert state == "STUCK"
    assert reason.startswith(f"its message is a dead letter: {told}")
    assert function.batch(letter["Body"]) == []
    assert [state for state, _ in rows()] == ["ACCEPTED"]


def test_what_was_done_of_such_a_message_stays_done(reports, deployed, waiting, rows, monkeypatch):
    monkeypatch.setenv("REPAYMENTS_PER_CALL", "1")
    monkeypatch.setenv("PARALLEL_CALLS", "1")
    runtime.forget()
    message = {"period": "2026-10", "repayments": [repayments(f"L-{it}")["repayments"][0] for it in range(3)]}
    deployed.answers = [(200, {"code": "api.success", "upload_id": 7}), (429, {})]
    assert reports.batch(message, delivery=LAST) == []
    assert [state for state, _ in [*rows("L-0"), *rows("L-1"), *rows("L-2")]] == ["ACCEPTED", "STUCK", "STUCK"]
    (letter,) = waiting("dead letters")
    reports.batch(letter["Body"])
    assert [state for state, _ in [*rows("L-0"), *rows("L-1"), *rows("L-2")]] == ["ACCEPTED"] * 3
    assert len([row for _, body in deployed.sent for row in body["repayments"]]) == 4


def test_what_somebody_else_is_sending_at_its_last_delivery_is_not_stuck(drafts, deployed, waiting, rows):
    message = json.dumps(drafts.message("L-1"))
    other = Function(Kind.LOAN_DRAFT, drafts.context)
    deployed.while_posting = lambda: other.batch(message, delivery=LAST)
    assert drafts.batch(message) == []
    assert rows() == [("ACCEPTED", "")]
    assert "another function is sending it right now" in reason_of(waiting("dead letters")[0])


def test_what_never_got_so_far_as_to_be_claimed_says_why_in_its_letter(function, deployed, waiting, rows):
    function.post(function.message("L-1"))
    deployed.secrets = ()
    assert function.batch(function.message("L-1"), delivery=LAST) == []
    (letter,) = waiting("dead letters")
    assert "refuses the client id" in reason_of(letter)
    assert [state for state, _ in rows()] == ["STUCK"]


def test_a_last_delivery_that_no_dead_letter_queue_takes_stays_in_its_queue(drafts, deployed, queue_urls, rows):
    boto3.client("sqs").delete_queue(QueueUrl=queue_urls[1])
    deployed.answers = [(429, {})]
    assert drafts.batch(drafts.message("L-1"), delivery=LAST) == ["m0"]
    assert [state for state, _ in rows()] == ["RETRY"]


def test_what_cannot_even_be_read_at_its_last_delivery_says_where_it_failed(function, waiting, rows, monkeypatch):
    function.post(function.message("L-1"))
    monkeypatch.setattr("kiva_partner.queues.parse", lambda *_: 1 / 0)
    assert function.batch(function.message("L-1"), delivery=LAST - 1) == ["m0"]
    assert function.batch(function.message("L-1"), delivery=LAST) == []
    told = "it was received 100 times; the last time: it could not be read: ZeroDivisionError at test_stuck.py"
    assert reason_of(waiting("dead letters")[0]).startswith(told)
    assert rows() == [("QUEUED", "")]


# --- nothing was heard of it for as long as its queue keeps a message ---------------------------------------------


@pytest.mark.parametrize("state", ["QUEUED", "RETRY"])
def test_what_was_purged_or_expired_is_stuck_when_its_queue_keeps_no_message_for_longer(
    function, deployed, housekeeping, rows, time_passes, state, capsys
):
    if state == "QUEUED":
        function.post(function.message("L-1"))
    else:
        deployed.answers = [(429, {})]
        function.batch(function.message("L-1"))
    time_passes(RETENTION_SECONDS)
    assert housekeeping()["stuck"] == 0
    assert [each for each, _ in rows()] == [state]
    time_passes(1)
    assert housekeeping()["stuck"] == 1
    assert '"SubmissionStuck":[1.0]' in capsys.readouterr().out
    ((now, reason),) = rows()
    assert now == "STUCK"
    assert "has expired or was purged" in reason
    assert housekeeping()["stuck"] == 0
    assert function.batch(function.message("L-1")) == []
    assert [each for each, _ in rows()] == ["ACCEPTED"]


def test_what_has_its_outcome_or_waits_for_a_decision_never_gets_stuck(
    drafts, deployed, housekeeping, rows, time_passes
):
    deployed.answers = [(200, {"code": "api.success", "loan_draft_uuid": "462cb9b9"}), (400, {}), (500, {})]
    for loan in ("L-1", "L-2", "L-3"):
        drafts.batch(drafts.message(loan))
    time_passes(RETENTION_SECONDS + 1)
    assert housekeeping()["stuck"] == 0
    assert [state for state, _ in [*rows("L-1"), *rows("L-2"), *rows("L-3")]] == ["ACCEPTED", "REJECTED", "UNKNOWN"]


def test_what_was_decided_to_be_sent_again_is_queued_however_late_and_not_stuck(
    drafts, deployed, console, housekeeping, rows, waiting, time_passes
):
    deployed.answers = [(500, {})]
    drafts.batch(drafts.message("L-1"))
    time_passes(2000)
    console("/submissions/loan_draft/L-1/decision", {"decision": "send-again", "reason": "not in PA2"})
    time_passes(RETENTION_SECONDS + 1)
    done = housekeeping()
    assert (done["requeued"], done["stuck"]) == (1, 0)
    drafts.batch(waiting()[0]["Body"])
    assert [state for state, _ in rows()] == ["ACCEPTED"]


def test_of_very_many_each_run_marks_some(reports, housekeeping, time_passes, monkeypatch):
    monkeypatch.setattr("kiva_partner.housekeeping.MOST_STUCK", 2)
    for loan in range(5):
        reports.post(reports.message(f"L-{loan}"))
    time_passes(RETENTION_SECONDS + 1)
    assert [housekeeping()["stuck"] for _ in range(4)] == [2, 2, 1, 0]


# --- who is told, and what ends it --------------------------------------------------------------------------------


@pytest.fixture
def stuck(function, deployed):
    deployed.answers = [(429, {})]
    function.batch(function.message("L-1"), delivery=LAST)


def test_it_waits_for_a_person_whatever_its_age(stuck, function, console):
    with time_machine.travel(datetime.now(UTC) + timedelta(days=100)):
        _, waits = console("/waiting", days="1")
    assert waits["counts"]["stuck"] == 1
    (row,) = waits["stuck"]
    assert (row["kind"], row["state"]) == (function.kind, "STUCK")
    assert row["reason"].startswith("its message is a dead letter")


def test_it_is_given_up_at_once_and_no_copy_brings_it_back(stuck, function, deployed, console, path, rows, waiting):
    status, body = console(f"{path()}/decision", ABANDON)
    assert (status, body["state"]) == (200, "ABANDONED")
    function.batch(waiting("dead letters")[0]["Body"], function.message("L-1"))
    assert [state for state, _ in rows()] == ["ABANDONED"]
    assert len(deployed.sent) == 1


@pytest.mark.parametrize(
    "decision",
    [
        {"decision": "send-again", "reason": "not in PA2"},
        {"decision": "accepted", "reason": "in PA2", "kiva_reference": "A-7"},
    ],
    ids=lambda it: it["decision"],
)
def test_nothing_else_can_be_decided_about_it(stuck, console, path, rows, decision):
    status, body = console(f"{path()}/decision", decision)
    assert (status, body["type"]) == (409, "urn:kiva-relay:problem:not-decidable")
    assert "can only be abandoned" in body["detail"]
    assert [state for state, _ in rows()] == ["STUCK"]


def test_whoever_gives_it_up_while_a_copy_is_on_its_way_is_told(stuck, function, console, path, rows):
    _, kind, reference = path().strip("/").split("/", 2)
    row = runtime.ledger().read(Kind(kind), reference)
    assert row.state is State.STUCK
    function.batch(function.message("L-1"))
    status, body = console(f"{path()}/decision", ABANDON)
    assert (status, body["detail"]) == (409, "it is ACCEPTED: only what is UNKNOWN or STUCK waits for this decision")
