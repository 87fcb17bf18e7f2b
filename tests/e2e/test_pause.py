"""A kind is paused by an operator, and resumed: what came meanwhile waits unharmed, and is submitted once."""

from typing import Any

import pytest

from cli.pause import switch
from cli.stacks import KINDS, StackOfStage, local_stack, messages_in
from local.stack import REGION

KIND = "repayment"


@pytest.fixture
def stack(world):
    return local_stack(world.stack.name, world.stack.endpoint, world.stack.api, REGION)


@pytest.fixture
def say(world, stack):
    """Pause or resume, as the relay command does; however the test ends, sending goes on after it."""

    def tell(what: str) -> Any:
        answer = world.stack.call("POST", f"/{what}", f'{{"kind": "{KIND}", "reason": "a test"}}'.encode(), {})
        assert answer.status_code == 200
        (queue,) = switch(stack, [KIND], on=what == "resume")
        assert queue.unchanged == ""
        return answer.json()

    yield tell
    tell("resume")


def in_the_queue(stack: StackOfStage) -> int:
    return sum(messages_in(stack.client("sqs"), stack.output(f"{KINDS[KIND]}QueueUrl")))


def test_what_comes_while_a_kind_is_paused_waits_and_is_submitted_once_when_it_is_resumed(world, stack, say):
    assert "paused" in say("pause")["kinds"][2]
    queued, posted = world.message(KIND, reference="paused-queue"), world.message(KIND, reference="paused-api")
    world.put(KIND, queued)
    answer = world.post(KIND, posted, Prefer="wait")
    assert (answer.status_code, answer.json()["state"]) == (202, "QUEUED")
    assert "repayments are paused since" in world.stack.call("GET", "/waiting", b"", {}).text
    draft = world.message("loan_draft", reference="not-paused")
    world.put("loan_draft", draft)
    assert world.ended("loan_draft", "not-paused")["state"] == "ACCEPTED"  # the others go on, in time enough for these
    loans = [message["repayments"][0]["loan_id"] for message in (queued, posted)]
    assert [world.at_kiva(KIND, loan) for loan in loans] == [[], []]
    assert in_the_queue(stack) == 2

    say("resume")

    for reference, loan in zip(("paused-queue", "paused-api"), loans, strict=True):
        submission = world.ended(KIND, f"{reference}:{loan}")
        assert (submission["state"], submission["attempts"]) == ("ACCEPTED", 1)
        assert len(world.at_kiva(KIND, loan)) == 1
