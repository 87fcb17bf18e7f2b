import json

import boto3
import pytest
from botocore.exceptions import ClientError

from cli import redrive as command
from cli.redrive import redrive
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
