"""Dead letters that were put back into their queue: the ledger knows which of them Kiva has."""

import json

import boto3
import pytest

from cli import dead_letters as command
from cli.dead_letters import redrive
from cli.stacks import KINDS
from fakes import FakeStack


@pytest.fixture
def dead_letters(queue_urls):
    """Lay messages aside, as a rule that was wrong would have it."""

    def lay_aside(*messages):
        for message in messages:
            boto3.client("sqs").send_message(
                QueueUrl=queue_urls[1],
                MessageBody=json.dumps(message),
                MessageAttributes={"Reason": {"DataType": "String", "StringValue": "a rule that was wrong"}},
            )

    return lay_aside


@pytest.fixture
def put_back(queue_urls, monkeypatch):
    """`make redrive` for a kind; gives how many it moved."""
    monkeypatch.setattr(command, "WAIT_SECONDS", 0)

    def move(kind):
        names = (f"{KINDS[kind]}QueueUrl", f"{KINDS[kind]}DeadLetterQueueUrl")
        outputs = dict(zip(names, queue_urls, strict=True))
        return sum(not letter.left for letter in redrive(FakeStack(outputs), kind))

    return move


def test_what_kiva_has_is_answered_from_the_ledger_and_only_the_rest_is_sent(
    function, deployed, dead_letters, put_back, waiting, console
):
    accepted, fixed = function.message("L-1"), function.message("L-2")
    function.batch(accepted)
    dead_letters(accepted, fixed)

    assert put_back(function.kind) == 2

    bodies = [message["Body"] for message in waiting()]
    assert function.batch(*bodies) == []
    assert len(deployed.sent) == 2
    assert waiting("dead letters") == []
    _, found = console("/submissions", kind=function.kind.value, state="ACCEPTED")
    assert {each["loan_id"]: each["attempts"] for each in found["submissions"]} == {"L-1": 1, "L-2": 1}
