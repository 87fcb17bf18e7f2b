"""From a message to the event on the bus: the functions as Lambda calls them, the ledger's stream in between."""

import json
from importlib import import_module

import boto3
import pytest

from handlers import BORROWER, Function, repayments
from kiva_partner import runtime
from kiva_partner.messages import Kind
from kiva_partner.queues import MOST_RECEIVES
from stream import Stream


@pytest.fixture
def stream(table, monkeypatch):
    return Stream(monkeypatch)


@pytest.fixture
def told(deployed, queue_urls, monkeypatch):
    """What has come by the bus to a queue that listens to everything."""
    events, sqs = boto3.client("events"), boto3.client("sqs")
    url = sqs.create_queue(QueueName="listener")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.create_event_bus(Name="outcomes")
    pattern = json.dumps({"source": ["kiva-relay"]})
    events.put_rule(Name="all", EventBusName="outcomes", EventPattern=pattern)
    events.put_targets(Rule="all", EventBusName="outcomes", Targets=[{"Id": "queue", "Arn": arn}])
    monkeypatch.setenv("EVENT_BUS", "outcomes")
    runtime.forget()

    def take():
        found = []
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            found += [json.loads(message["Body"]) for message in messages]
            for message in messages:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found

    return take


@pytest.fixture
def outcomes(context):
    return lambda event: import_module("outcomes.app").handler(event, context)


def test_a_submission_is_told_once_when_it_has_settled(function, stream, outcomes, told):
    function.batch(function.message("L-1"), function.message("L-2"))
    stream.deliver(outcomes)
    function.batch(function.message("L-1"))  # delivered twice
    stream.deliver(outcomes)
    events = told()
    assert {event["detail-type"] for event in events} == {"SubmissionSettled"}
    assert sorted(event["detail"]["loan_id"] for event in events) == ["L-1", "L-2"]
    assert {(event["detail"]["state"], event["detail"]["kind"]) for event in events} == {("ACCEPTED", function.kind)}


def test_what_comes_again_is_not_told(function, stream, outcomes, told, deployed):
    deployed.answers = [(429, {})]
    function.batch(function.message("L-1"))
    stream.deliver(outcomes)
    assert told() == []


def test_what_nobody_knows_is_told_and_that_it_is_kept_is_not(function, stream, outcomes, told, deployed):
    deployed.answers = [(500, {})]
    function.batch(function.message("L-1"))
    stream.deliver(outcomes)
    (event,) = told()
    assert event["detail"]["state"] == "UNKNOWN"
    assert "HTTP 500" in event["detail"]["reason"]


def test_nothing_of_a_borrower_is_told_or_logged(function, stream, outcomes, told, deployed, capsys):
    message = function.message("L-1")
    canaries = [canary for canary in BORROWER if canary in json.dumps(message)]
    deployed.answers = [(422, {"message": " ".join(canaries)})]
    function.batch(message)
    stream.deliver(outcomes)
    events = told()
    assert events[0]["detail"]["state"] == "REJECTED"
    shown = json.dumps(events) + capsys.readouterr().out
    assert not [canary for canary in canaries if canary in shown]


def test_published_outcomes_are_counted(function, stream, outcomes, told, capsys):
    function.batch(function.message("L-1"))
    stream.deliver(outcomes)
    assert '"OutcomePublished":[1.0]' in capsys.readouterr().out


def test_while_the_bus_is_not_to_be_reached_nothing_is_lost(function, stream, outcomes, told, monkeypatch, capsys):
    function.batch(function.message("L-1"))
    with monkeypatch.context() as broken:
        broken.setattr(runtime, "aws", lambda service: lambda: 1 / 0)
        runtime.outcomes.cache_clear()
        assert stream.deliver(outcomes) == 10
    assert told() == []
    assert "the bus does not take them: unexpected ZeroDivisionError" in capsys.readouterr().out
    runtime.outcomes.cache_clear()
    stream.deliver(outcomes)
    assert len(told()) == 1


def test_a_record_that_cannot_be_read_is_laid_aside(outcomes, told, waiting, capsys):
    change = {"Keys": {"pk": {"S": "x"}}, "NewImage": {"state": {"S": "ACCEPTED"}}, "SequenceNumber": "1"}
    assert outcomes({"Records": [{"eventID": "e-1", "eventSource": "aws:dynamodb", "dynamodb": change}]}) == {
        "batchItemFailures": []
    }
    (letter,) = waiting("dead-letters")
    assert json.loads(letter["Body"])["Keys"] == {"pk": {"S": "x"}}
    assert '"OutcomeLaidAside":[1.0]' in capsys.readouterr().out


# --- the digest -----------------------------------------------------------------------------------------------------

TICK = {"detail-type": "Scheduled Event"}


def test_when_nothing_waits_there_is_no_digest(outcomes, told):
    assert outcomes(TICK) == {"digest": ""}
    assert told() == []


def test_the_digest_says_what_waits_for_a_person(drafts, reports, outcomes, told, deployed):
    drafts.batch(drafts.message("L-1"), drafts.message("L-2"))
    reports.batch(repayments("L-3"))
    deployed.answers = [(500, {})]
    reports.batch(repayments("L-4"))
    deployed.answers = [(422, {"message": "no"})]
    drafts.batch(drafts.message("L-5"))
    outcomes(TICK)
    (event,) = told()
    assert event["detail-type"] == "SubmissionDigest"
    digest = event["detail"]
    counts = {"drafts": 2, "archives": 0, "uploads": 1, "unknown": 1, "stuck": 0, "rejected": 1, "not_sent": 0}
    assert digest["waiting"] == counts
    upload = runtime.ledger().read(Kind.REPAYMENT, "2026-10:L-3:100.50").outcome.kiva["upload_id"]
    assert digest["text"] == (
        f"2 drafts to publish in PA2 > Loans > Drafts\n1 upload to finalise in PA2 > Repayments: {upload}\n"
        "1 call to decide, of which nobody knows whether Kiva has it\n1 refused submission to correct"
    )


def test_the_digest_names_what_is_stuck(drafts, outcomes, told, deployed):
    deployed.answers = [(429, {}), (429, {})]
    drafts.batch(drafts.message("L-1"), drafts.message("L-2"), delivery=MOST_RECEIVES)
    outcomes(TICK)
    (event,) = told()
    assert event["detail"]["waiting"]["stuck"] == 2
    assert event["detail"]["text"] == "2 stuck submissions that Kiva has not: to put right and send, or to give up"


def test_the_digest_leads_to_the_archives_and_names_no_loan(deployed, context, outcomes, told):
    journals = Function(Kind.JOURNAL_UPDATE, context)
    journals.batch(journals.message("L-1"))
    text = outcomes(TICK)["digest"]
    kiva = next(runtime.ledger().every(Kind.JOURNAL_UPDATE, "ACCEPTED")).outcome.kiva
    assert text == f"1 archive to confirm:\n{kiva['confirm_url']}"
    assert "L-1" not in json.dumps([event["detail"] for event in told()])


def test_what_somebody_has_done_is_in_no_digest(drafts, outcomes, told):
    drafts.batch(drafts.message("L-1"))
    row = runtime.ledger().read(Kind.LOAN_DRAFT, "L-1")
    runtime.ledger().mark_done(Kind.LOAN_DRAFT, row.outcome.kiva["loan_draft_uuid"], "somebody")
    assert outcomes(TICK) == {"digest": ""}
