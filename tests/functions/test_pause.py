"""`POST /pause` and `POST /resume`, and what the functions do meanwhile."""

import json

import pytest
import time_machine

from deployment import TABLE
from invocations import batch
from kiva_partner import runtime
from kiva_partner.ledger import State
from kiva_partner.messages import Kind
from kiva_partner.sending import Sending

WHY = "October was exported twice"


@pytest.fixture
def pause(console):
    def say(**body):
        return console("/pause", {"reason": WHY, **body})

    return say


@pytest.fixture
def resume(console):
    def say(**body):
        return console("/resume", {"reason": "it is over", **body})

    return say


def of(kind, body):
    return next(each for each in body["kinds"] if each["kind"] == kind)


def test_a_message_of_a_paused_kind_waits_for_an_hour_and_goes_once_it_is_resumed(function, deployed, pause, resume):
    pause(kind=function.kind)
    assert function.batch(function.message("L-1")) == ["m0"]
    assert (deployed.sent, deployed.reads, deployed.token_requests) == ([], 0, 0)
    assert runtime.ledger().list_by_loan("L-1").rows == []
    resume(kind=function.kind)
    assert function.batch(function.message("L-1")) == []
    assert len(deployed.sent) == 1


def test_a_message_that_is_received_all_the_same_waits_for_as_long_as_any(function, pause, monkeypatch):
    pause()
    waits = []
    monkeypatch.setattr(runtime.consumer(function.kind).queues, "put_off", waits.extend)
    function.handler(batch(json.dumps(function.message("L-1"))), function.context)
    assert [seconds for _, seconds in waits] == [3600]


def test_the_api_queues_what_is_paused_even_where_the_outcome_is_waited_for(function, deployed, waiting, pause):
    pause(kind=function.kind)
    status, body, _ = function.post(function.message("L-1"), Prefer="wait")
    assert (status, body["state"]) == (202, State.QUEUED)
    assert len(waiting()) == 1
    assert deployed.sent == []


def test_one_kind_is_paused_and_the_others_go_on(drafts, reports, deployed, pause):
    pause(kind="repayment")
    assert reports.batch(reports.message("L-1")) == ["m0"]
    assert drafts.batch(drafts.message("L-1")) == []


def test_a_pause_in_the_middle_of_a_batch_stops_it_within_ten_seconds(drafts, deployed, pause):
    """What is claimed goes to Kiva; what is not claimed yet waits, and no outcome is lost."""
    with time_machine.travel("2026-11-28T10:00:00Z", tick=False) as now:

        def while_posting():
            if len(deployed.sent) == 1:
                scope = runtime.settings().ledger_scope
                Sending(runtime.aws("dynamodb"), TABLE, scope).pause([Kind.LOAN_DRAFT], "arn:ann", WHY)
                now.shift(11)

        deployed.while_posting = while_posting
        again = drafts.batch(*(drafts.message(f"L-{number}") for number in range(120)))
    accepted = list(runtime.ledger().every(Kind.LOAN_DRAFT, State.ACCEPTED))
    assert len(accepted) == len(deployed.sent) == 4
    assert len(again) == 116


def test_the_answer_says_who_paused_what_when_and_why(console, pause, resume):
    status, body = pause(kind="loan_draft")
    assert status == 200
    paused = of("loan_draft", body)["paused"]
    assert (paused["by"], paused["reason"]) == ("arn:aws:iam::000000000000:user/wanjiku", WHY)
    assert "paused" not in of("repayment", body)
    assert of("loan_draft", console("/waiting")[1]["sending"])["paused"] == paused
    assert of("loan_draft", console("/health")[1])["paused"] == paused
    resumed = of("loan_draft", resume()[1])
    assert "paused" not in resumed
    assert resumed["resumed"]["reason"] == "it is over"


def test_what_waits_says_that_its_kind_is_paused(reports, console, pause, resume):
    reports.post(reports.message("L-1"))
    with time_machine.travel("2026-11-28T10:00:00Z", tick=False):
        pause(kind="repayment")
    step = "nothing for it alone: repayments are paused since 2026-11-28 10:00 UTC; after that it is sent by itself"
    path = "/submissions/repayment/2026-10:L-1:100.50"
    assert console(path)[1]["next_step"] == step
    assert console("/submissions", loan_id="L-1")[1]["submissions"][0]["next_step"] == step
    resume()
    assert console(path)[1]["next_step"] == "nothing: it is sent by itself"


def test_without_a_kind_everything_is_paused(pause):
    assert all("paused" in each for each in pause()[1]["kinds"])


def test_who_paused_is_in_the_log_and_why_is_not(pause, resume, capsys):
    pause(kind="loan_draft")
    pause(kind="loan_draft")
    resume()
    said = capsys.readouterr().out
    lines = [line for line in map(json.loads, said.splitlines()) if line.get("by")]
    assert [(line["message"], line["kind"]) for line in lines] == [("paused", "loan_draft"), ("resumed", "loan_draft")]
    assert WHY not in said


@pytest.mark.parametrize("path", ["/pause", "/resume"])
@pytest.mark.parametrize("body", [{}, {"reason": "x", "kind": "dream"}, "no JSON"])
def test_what_breaks_a_rule_changes_nothing(console, path, body):
    assert console(path, body)[0] == 400
    assert runtime.sending().standing().paused == {}


# --- after a restore ----------------------------------------------------------------------------------------------


@pytest.fixture
def restored(deployed):
    """The ledger is a table that was restored from a backup."""
    import boto3  # noqa: PLC0415

    client = boto3.client("dynamodb")
    backup = client.create_backup(TableName="ledger", BackupName="before")["BackupDetails"]["BackupArn"]

    def restore():
        client.delete_table(TableName="ledger")
        client.restore_table_from_backup(TargetTableName="ledger", BackupArn=backup)
        runtime.forget()

    return restore


def test_what_was_sent_after_the_backup_is_not_sent_again_before_a_person_confirms(
    drafts, deployed, console, restored, resume
):
    assert drafts.batch(drafts.message("L-1")) == []
    restored()
    assert drafts.batch(drafts.message("L-1")) == ["m0"]
    assert len(deployed.sent) == 1
    assert console("/health")[1]["restored"] is True
    assert resume()[1]["restored"] is True
    assert resume(restored=True)[1]["restored"] is False
    assert drafts.batch(drafts.message("L-2")) == []
    assert len(deployed.sent) == 2
