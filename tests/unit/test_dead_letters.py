import json

import boto3
import pytest
import time_machine
from botocore.exceptions import ClientError

from cli import dead_letters as command
from cli.dead_letters import look, redrive, take
from fakes import FakeStack


@pytest.fixture
def sqs(aws):
    return boto3.client("sqs")


@pytest.fixture
def stack(sqs, queue_urls, monkeypatch):
    monkeypatch.setattr(command, "WAIT_SECONDS", 0)
    outputs = dict(zip(("LoanDraftsQueueUrl", "LoanDraftsDeadLetterQueueUrl"), queue_urls, strict=True))
    return FakeStack(outputs, client=lambda service: sqs)


@pytest.fixture
def lay_aside(sqs, queue_urls):
    """Make a dead letter as the functions do; gives its message id."""

    def send(body, reason="$.currency: is missing", source="an-earlier-id"):
        attributes = {"Reason": reason, "SourceMessageId": source}
        return sqs.send_message(
            QueueUrl=queue_urls[1],
            MessageBody=body,
            MessageAttributes={name: {"DataType": "String", "StringValue": it} for name, it in attributes.items()},
        )["MessageId"]

    return send


@pytest.fixture
def bodies(sqs, queue_urls):
    """What lies in the queue, or in the dead-letter queue; it stays there."""

    def read(which):
        found = []
        while messages := sqs.receive_message(QueueUrl=queue_urls[which], MaxNumberOfMessages=10).get("Messages"):
            found += messages
        for each in found:
            sqs.change_message_visibility(
                QueueUrl=queue_urls[which], ReceiptHandle=each["ReceiptHandle"], VisibilityTimeout=0
            )
        return sorted(each["Body"] for each in found)

    return lambda name: read(0 if name == "queue" else 1)


def test_dead_letters_go_back_into_their_queue_and_their_reasons_are_shown(stack, lay_aside, bodies):
    ids = {lay_aside(f"body {number}", f"$.field{number}: is missing") for number in range(25)}

    letters = list(redrive(stack, "loan_draft"))

    assert {letter.message_id for letter in letters} == ids
    assert {letter.reason for letter in letters} == {f"$.field{number}: is missing" for number in range(25)}
    assert not any(letter.left for letter in letters)
    assert bodies("queue") == sorted(f"body {number}" for number in range(25))
    assert bodies("dead letters") == []


def test_a_letter_that_sqs_itself_moved_has_no_reason_and_goes_back_too(stack, sqs, queue_urls, bodies):
    sqs.send_message(QueueUrl=queue_urls[1], MessageBody="a body")

    (letter,) = redrive(stack, "loan_draft")

    assert str(letter) == f"moved  {letter.message_id}  it came again too often"
    assert bodies("queue") == ["a body"]


def test_a_body_that_lies_in_the_bucket_is_left_and_the_others_go(stack, lay_aside, bodies):
    too_large = json.dumps({"body_in_bucket": "dead-letters/1"})
    lay_aside(too_large, "$: must be at most 1000000 bytes")
    lay_aside("a body")

    letters = list(redrive(stack, "loan_draft"))

    (left,) = [letter for letter in letters if letter.left]
    assert "dead-letters/1" in left.left
    assert bodies("queue") == ["a body"]
    assert bodies("dead letters") == [too_large]


def test_no_more_are_moved_than_asked_for_and_the_rest_can_be_had_at_once(stack, lay_aside, bodies):
    lay_aside(json.dumps({"body_in_bucket": "dead-letters/1"}))
    for number in range(12):
        lay_aside(f"body {number}")

    letters = list(redrive(stack, "loan_draft", 11))

    assert sum(not letter.left for letter in letters) == 11
    assert len(bodies("queue")) == 11
    assert len(bodies("dead letters")) == 2


def test_what_comes_back_at_once_is_left_and_does_not_go_round_for_ever(stack, sqs, queue_urls, lay_aside, bodies):
    lay_aside("invalid")
    letters = []
    for letter in redrive(stack, "loan_draft"):
        letters.append(letter)
        for message in sqs.receive_message(QueueUrl=queue_urls[0]).get("Messages", []):  # as the function does
            sqs.delete_message(QueueUrl=queue_urls[0], ReceiptHandle=message["ReceiptHandle"])
            lay_aside(message["Body"], source=message["MessageId"])

    assert [letter.left for letter in letters] == ["", "moved just now, and it has come back"]
    assert bodies("dead letters") == ["invalid"]


def test_a_reason_that_somebody_else_wrote_does_not_command_the_terminal(stack, lay_aside):
    lay_aside("a body", "\N{RIGHT-TO-LEFT OVERRIDE}fine\t\n")  # SQS takes no ESC
    (letter,) = redrive(stack, "loan_draft")
    assert letter.reason == "?fine??"


def test_an_interruption_leaves_a_copy_and_never_a_hole(stack, sqs, lay_aside, bodies, monkeypatch):
    lay_aside("first")

    def refused(**_):
        raise ClientError({"Error": {"Code": "InternalError"}}, "DeleteMessage")

    monkeypatch.setattr(sqs, "delete_message", refused)
    with pytest.raises(ClientError):
        list(redrive(stack, "loan_draft"))

    assert bodies("queue") == ["first"]
    assert bodies("dead letters") == ["first"]


# --- reading them, and leaving them ---------------------------------------------------------------------------------


@pytest.fixture
def retention(sqs, queue_urls):
    sqs.set_queue_attributes(QueueUrl=queue_urls[1], Attributes={"MessageRetentionPeriod": "1209600"})


def test_dead_letters_are_read_and_left_where_they_are(stack, lay_aside, bodies, retention):
    ids = {lay_aside(f"canary {number}", f"$.field{number % 2}: is missing") for number in range(25)}

    found = look(stack, "loan_draft")

    assert found.total == 25
    assert {letter.message_id for letter in found.letters} == ids
    assert {letter.reason for letter in found.letters} == {"$.field0: is missing", "$.field1: is missing"}
    assert "canary" not in repr(found)
    assert len(bodies("dead letters")) == 25
    assert bodies("queue") == []


def test_no_more_are_read_than_asked_for_and_all_are_counted(stack, lay_aside, bodies, retention):
    for number in range(15):
        lay_aside(f"body {number}")

    found = look(stack, "loan_draft", 12)

    assert (found.total, len(found.letters)) == (15, 12)
    assert len(bodies("dead letters")) == 15


def test_a_letter_tells_when_its_event_was_first_sent_and_when_it_is_deleted(stack, sqs, queue_urls, retention):
    """14 days from its own sending; a letter that SQS moved keeps the event's (SQS, "Message retention period")."""
    attributes = {"Reason": "x", "FirstSentAt": "2026-11-20T08:00:00+00:00"}
    with time_machine.travel("2026-11-27T08:00:00Z", tick=False):
        sqs.send_message(
            QueueUrl=queue_urls[1],
            MessageBody="of a function",
            MessageAttributes={name: {"DataType": "String", "StringValue": it} for name, it in attributes.items()},
        )
        sqs.send_message(QueueUrl=queue_urls[1], MessageBody="of SQS")
        ours, of_sqs = look(stack, "loan_draft").letters

    assert (ours.first_sent, ours.deleted_on) == ("2026-11-20T08:00:00+00:00", "2026-12-11T08:00:00+00:00")
    assert (of_sqs.first_sent, of_sqs.deleted_on) == ("2026-11-27T08:00:00+00:00", "2026-12-11T08:00:00+00:00")
    assert of_sqs.reason == "it came again too often"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"eventID": "e", "Keys": {"pk": {"S": "x"}}, "error": "KeyError at ledger.py:1"}, "a row that cannot be read"),
        (
            {
                "DDBStreamBatchInfo": {
                    "approximateArrivalOfFirstRecord": "2026-11-27T08:00:00Z",
                    "approximateArrivalOfLastRecord": "2026-11-27T08:05:00Z",
                }
            },
            "Lambda gave up: what settled from 2026-11-27T08:00:00Z to 2026-11-27T08:05:00Z",
        ),
        ("somebody else's", "it came again too often"),
    ],
)
def test_letters_of_outcomes_say_what_was_not_published(stack, sqs, queue_urls, retention, body, reason):
    stack.outputs["OutcomesDeadLetterQueueUrl"] = queue_urls[1]
    sqs.send_message(QueueUrl=queue_urls[1], MessageBody=json.dumps(body))
    (letter,) = look(stack, "outcomes").letters
    assert letter.reason.startswith(reason)


def test_an_error_while_reading_shows_again_what_was_hidden(stack, sqs, lay_aside, bodies, retention, monkeypatch):
    lay_aside("a body")
    receive, asked = sqs.receive_message, []

    def fail_at_the_second(**asked_for):
        asked.append(asked_for)
        if len(asked) == 2:
            raise ClientError({"Error": {"Code": "InternalError"}}, "ReceiveMessage")
        return receive(**asked_for)

    with monkeypatch.context() as broken:
        broken.setattr(sqs, "receive_message", fail_at_the_second)
        with pytest.raises(ClientError):
            look(stack, "loan_draft")

    assert bodies("dead letters") == ["a body"]


def test_the_letter_of_one_message_is_taken_from_among_many_and_the_others_stay_to_be_seen(stack, lay_aside, bodies):
    for number in range(25):
        lay_aside(f"body {number}", source=f"message-{number}")

    assert take(stack, "loan_draft", "message-17") == "$.currency: is missing"

    assert bodies("dead letters") == sorted(f"body {number}" for number in range(25) if number != 17)
    assert take(stack, "loan_draft", "message-17") is None
    assert len(bodies("dead letters")) == 24
