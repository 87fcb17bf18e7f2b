import json
import re

import boto3
import pytest
import requests
import time_machine

from fakes import TOKEN_URL
from faults.bookkeeping_kiva import no_connection
from handlers import Function
from invocations import batch
from kiva_partner import runtime
from kiva_partner.ledger import State
from kiva_partner.messages import MAX_MESSAGE_BYTES, Kind


def test_a_batch_is_submitted_and_nothing_comes_again(function, deployed, console):
    assert function.batch(function.message("L-1"), function.message("L-2")) == []
    assert deployed.sent
    _, found = console("/submissions", kind=function.kind.value, state="ACCEPTED")
    assert sorted(each["loan_id"] for each in found["submissions"]) == ["L-1", "L-2"]


def test_a_batch_delivered_again_is_answered_from_the_ledger(function, deployed):
    function.batch(function.message("L-1"))
    assert function.batch(function.message("L-1")) == []
    assert len(deployed.sent) == 1


def test_an_invalid_message_goes_to_the_dead_letters_at_once_and_its_neighbours_to_kiva(
    function, deployed, waiting, capsys
):
    assert function.batch(function.message("L-1"), "{", function.message("L-2")) == []
    (letter,) = waiting("dead letters")
    assert '"DeadLetter":[1.0]' in capsys.readouterr().out
    assert letter["Body"] == "{"
    assert letter["MessageAttributes"]["Reason"]["StringValue"].startswith("$: is not JSON")
    assert letter["MessageAttributes"]["SourceMessageId"]["StringValue"] == "m1"
    assert "L-1" in json.dumps(deployed.sent)
    assert "L-2" in json.dumps(deployed.sent)


def test_only_what_was_not_processed_comes_again(drafts, deployed):
    deployed.answers = [(429, {})]
    failures = drafts.batch(drafts.message("L-1"))
    assert failures == ["m0"]
    assert drafts.batch(drafts.message("L-1")) == []


def test_unknown_is_recorded_and_acknowledged_so_that_it_is_not_sent_again(function, deployed, console):
    deployed.answers = [requests.ReadTimeout("slow")]
    assert function.batch(function.message("L-1")) == []
    _, found = console("/submissions", kind=function.kind.value, state="UNKNOWN")
    assert "look in PA2" in found["submissions"][0]["next_step"]
    assert function.batch(function.message("L-1")) == []
    assert len(deployed.sent) == 1


def test_an_outcome_is_counted_once_though_its_message_comes_twice(function, deployed, capsys):
    deployed.answers = [(500, {})]
    function.batch(function.message("L-1"))
    function.batch(function.message("L-1"))
    out = capsys.readouterr().out
    assert out.count('"SubmissionUnknown":[1.0]') == 1
    assert out.count('"SubmissionKnown":[1.0]') == 1


def test_other_content_under_a_used_reference_goes_to_the_dead_letters_and_not_to_kiva(drafts, deployed, waiting):
    drafts.batch(drafts.message("L-1"))
    assert drafts.batch(drafts.message("L-1", loanuse="to buy seed")) == []
    (letter,) = waiting("dead letters")
    assert "L-1: its reference belongs to other content" in letter["MessageAttributes"]["Reason"]["StringValue"]
    assert len(deployed.sent) == 1


def test_two_contents_in_one_batch_are_told_apart(drafts, deployed, waiting, console):
    corrected = drafts.message("L-1", loanuse="to buy seed")
    assert drafts.batch(drafts.message("L-1"), corrected, drafts.message("L-1")) == ["m1"]
    assert drafts.batch(corrected) == []
    (letter,) = waiting("dead letters")
    assert json.loads(letter["Body"]) == corrected
    assert console("/submissions/loan_draft/L-1")[1]["state"] == "ACCEPTED"
    assert len(deployed.sent) == 1


def test_a_message_too_long_for_its_reason_is_kept_in_the_bucket(function, deployed, waiting):
    body = json.dumps("x" * (MAX_MESSAGE_BYTES + 40_000))
    assert function.batch(body) == []
    (letter,) = waiting("dead letters")
    assert "must be at most" in letter["MessageAttributes"]["Reason"]["StringValue"]
    key = json.loads(letter["Body"])["body_in_bucket"]
    kept = boto3.client("s3").get_object(Bucket="payloads", Key=key)["Body"].read()
    assert kept.decode() == body
    assert deployed.sent == []


def test_a_dead_letter_queue_that_takes_nothing_loses_nothing(function, deployed, queue_urls, capsys):
    boto3.client("sqs").delete_queue(QueueUrl=queue_urls[1])
    assert function.batch("{", function.message("L-1")) == ["m0"]
    assert '"DeadLetter"' not in capsys.readouterr().out


def test_without_a_token_every_message_comes_again_and_nothing_is_claimed(function, deployed, console):
    boto3.client("secretsmanager").update_secret(SecretId="credentials", SecretString="{}")
    assert function.batch(function.message("L-1"), "{") == ["m0"]
    for state in State:
        assert console("/submissions", kind=function.kind.value, state=state.value)[1]["submissions"] == []
    assert deployed.sent == []


def test_settings_that_contradict_each_other_alarm_and_lose_nothing(function, deployed, monkeypatch, capsys):
    monkeypatch.setenv("KIVA_AUDIENCE", "https://partner-api.k1.kiva.org")
    runtime.forget()
    assert function.batch(function.message("L-1"), "{") == ["m0", "m1"]
    status, body, _ = function.post(function.message("L-1"))
    assert (status, body["type"]) == (502, "urn:kiva-relay:problem:misconfigured")
    out = capsys.readouterr().out
    assert "KIVA_AUDIENCE is a production host of Kiva but KIVA_ENVIRONMENT is sandbox" in out
    assert out.count('"Misconfigured":[1.0]') == 2


def test_without_a_ledger_nothing_is_sent(function, deployed, table):
    table.delete_table(TableName="ledger")
    assert function.batch(function.message("L-1")) == ["m0"]
    assert deployed.sent == []


def test_a_message_with_more_rows_than_time_comes_again_and_is_finished_then(reports, deployed, monkeypatch):
    monkeypatch.setenv("REPAYMENTS_PER_CALL", "2")
    monkeypatch.setenv("PARALLEL_CALLS", "1")
    runtime.forget()
    rows = [{"loan_id": f"L-{number}", "client_id": "C", "amount": number} for number in range(6)]
    message = {"period": "2026-10", "repayments": rows}
    deployed.while_posting = lambda: setattr(reports.context, "seconds", 100.0)
    assert reports.batch(message) == ["m0"]
    assert len(deployed.sent) == 1
    reports.context.seconds = 290.0
    deployed.while_posting = lambda: None
    assert reports.batch(message) == []
    sent = [row["loan_id"] for _, body in deployed.sent for row in body["repayments"]]
    assert sorted(sent) == sorted({*sent}) == [f"L-{number}" for number in range(6)]


def test_one_token_serves_all_functions_of_a_stage(deployed, context):
    for kind in Kind:
        runtime.forget()  # as a new execution environment begins
        function = Function(kind, context)
        function.batch(function.message("L-1"))
    assert len(deployed.sent) == 3
    assert deployed.token_requests == 1


@pytest.mark.parametrize("status", [None, 200, 400, 500])
def test_nothing_personal_and_no_secret_is_logged_or_kept(function, deployed, table, waiting, capsys, caplog, status):
    repeated = json.dumps(function.message("L-1"))
    deployed.answers = [(status, {"message": repeated}) if status else requests.ConnectionError(repeated)]
    invalid = function.message("L-2")
    invalid["unknown"] = "Canary-Akinyi"
    function.batch(function.message("L-1"), invalid)
    out, err = capsys.readouterr()
    rows = json.dumps(table.scan(TableName="ledger")["Items"])
    attributes = json.dumps([letter["MessageAttributes"] for letter in waiting("dead letters")])
    everything = (out + err + caplog.text + rows + attributes).lower()
    assert all(line in everything for line in ('"reference":"', "fetched a kiva token", "dead-letter queue"))
    assert "canary" not in everything


TOOK_NOTHING = '"KivaUnavailable":[1.0]'


@pytest.mark.parametrize(
    "answers",
    [[(429, {})], [no_connection()], [(429, {}), no_connection()]],
    ids=["come later", "no connection", "both"],
)
def test_an_invocation_of_which_kiva_took_nothing_is_counted(function, deployed, capsys, answers):
    deployed.answers = list(answers)
    loans = ("L-1", "L-2")[: len(answers)]
    assert function.batch(*map(function.message, loans))
    assert capsys.readouterr().out.count(TOOK_NOTHING) == 1


@pytest.mark.parametrize("status", [None, 503])
def test_so_is_one_that_got_no_token(function, deployed, capsys, status):
    answer = {"status": status} if status else {"body": no_connection()}
    deployed.mock.replace("POST", TOKEN_URL, **answer)
    assert function.batch(function.message("L-1")) == ["m0"]
    assert function.batch(function.message("L-1")) == ["m0"]
    assert capsys.readouterr().out.count(TOOK_NOTHING) == 2


@pytest.mark.parametrize(
    "answer",
    [(200, {}), (400, {}), (500, {}), requests.ReadTimeout("slow"), (307, {})],
    ids=["a yes that cannot be read", "a refusal", "an error", "no answer", "moved"],
)
def test_what_may_have_reached_kiva_or_is_our_own_fault_is_not_counted_as_such(function, deployed, capsys, answer):
    deployed.answers = [answer]
    function.batch(function.message("L-1"))
    assert "KivaUnavailable" not in capsys.readouterr().out


def test_an_open_circuit_is_not_counted_as_such(drafts, deployed, capsys):
    deployed.answers = [(500, {})] * 3
    drafts.batch(*(drafts.message(f"L-{number}") for number in range(3)))
    assert drafts.batch(drafts.message("L-9")) == ["m0"]
    assert "KivaUnavailable" not in capsys.readouterr().out


def test_the_age_of_the_oldest_message_is_told_whether_it_comes_again_or_not(function, deployed, capsys):
    deployed.answers = [(429, {})]
    assert function.batch(function.message("L-1"), age=4000, delivery=5) == ["m0"]
    assert function.batch(function.message("L-1"), age=7600, delivery=6) == []
    function.batch(function.message("L-1"), age=100)
    told = re.findall(r'"OldestMessageSeconds":\[(\d+)', capsys.readouterr().out)
    assert [int(seconds) // 100 for seconds in told] == [40, 76]


def test_a_record_that_does_not_say_when_it_was_sent_is_submitted_all_the_same(function, deployed):
    event = batch(json.dumps(function.message("L-1")))
    del event["Records"][0]["attributes"]["SentTimestamp"]
    assert function.handler(event, function.context) == {"batchItemFailures": []}
    assert len(deployed.sent) == 1


def test_a_dead_letter_says_when_its_event_was_first_sent(function, waiting, deployed):
    """A letter that a function writes is a new message, whose own time says nothing of the event."""
    with time_machine.travel("2026-11-28T12:00:00Z", tick=False):
        function.batch("no JSON", age=3600)
    (letter,) = waiting("dead-letters")
    assert letter["MessageAttributes"]["FirstSentAt"]["StringValue"] == "2026-11-28T11:00:00+00:00"
