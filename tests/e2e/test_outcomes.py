"""What settles is told on the event bus: once, by whatever way, to a rule of one's own, and without a borrower."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from e2e.world import NAME, SURNAME, loans
from local.stack import KINDS

PAGE = Path(__file__).parents[2] / "docs" / "outcomes.md"


class Listener:
    """A queue behind a rule, and all that has come to it."""

    def __init__(self, world, url):
        self.world = world
        self.sqs = world.stack.client("sqs")
        self.url = url
        self.events = []

    def of(self, reference, at_least=1):
        """What was told of a submission, once it is so much."""

        def look():
            while messages := self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages"):
                self.events += [json.loads(message["Body"]) for message in messages]
                for message in messages:
                    self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
            found = [event["detail"] for event in self.events if event["detail"].get("reference") == reference]
            return found if len(found) >= at_least else None

        return self.world.until(look, f"{at_least} events of {reference}")


@pytest.fixture(scope="module")
def listener(world):
    """Hears everything that the bus carries."""
    sqs, events, bus = world.stack.client("sqs"), world.stack.client("events"), world.stack.physical_id("EventBus")
    url = sqs.create_queue(QueueName="listener")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="all", EventBusName=bus, EventPattern=json.dumps({"source": ["kiva-relay"]}))
    events.put_targets(Rule="all", EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn}])
    return Listener(world, url)


@pytest.fixture
def last(world, listener):
    """Let something settle after all that went before, and wait until it is told: the stream keeps the order."""

    def settle():
        _, reference = world.location_of(world.post("loan_draft", world.draft(), Prefer="wait"))
        listener.of(reference)

    return settle


@pytest.mark.parametrize("kind", KINDS)
def test_a_submission_is_told_once_however_often_it_is_sent(world, listener, last, kind):
    message = world.message(kind)
    _, reference = world.location_of(world.post(kind, message, Prefer="wait"))
    world.post(kind, message, Prefer="wait")
    last()
    (told,) = listener.of(reference)
    shown = world.ended(kind, reference)
    same = ("kind", "reference", "loan_id", "state", "kiva", "call_id", "attempts")
    assert {name: told[name] for name in same} == {name: shown[name] for name in same}
    assert (told["state"], told["previous_state"], told["at"]) == ("ACCEPTED", "SENDING", shown["updated_at"])


def test_every_row_of_a_report_is_told_by_queue_too(world, listener, last):
    report = world.repayments(30)
    world.put("repayment", report)
    references = [f"2026-10:{loan}:1250.50" for loan in loans("repayment", report)]
    for reference in references:
        listener.of(reference)
    last()
    counted = Counter(event["detail"].get("reference") for event in listener.events)
    assert [reference for reference in references if counted[reference] != 1] == []


def test_what_nobody_knows_is_told_and_then_what_was_decided(world, listener, last):
    world.post("loan_draft", world.draft(reference="told-unknown"), Prefer="wait")
    world.die_while_sending("loan_draft", "told-unknown")
    world.housekeeping()
    assert world.decide("loan_draft", "told-unknown", decision="abandon", reason=f"of {NAME}").ok
    last()
    told = [(it["previous_state"], it["state"], it.get("decision")) for it in listener.of("told-unknown", 3)]
    assert told == [("SENDING", "ACCEPTED", None), ("SENDING", "UNKNOWN", None), ("UNKNOWN", "ABANDONED", "abandon")]


def test_the_rule_in_the_documentation_collects_what_kiva_refused(world, listener, last):
    (template,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    cloudformation = world.stack.client("cloudformation")
    bus = [{"ParameterKey": "EventBusName", "ParameterValue": world.stack.physical_id("EventBus")}]
    cloudformation.create_stack(StackName="refused", TemplateBody=template, Parameters=bus)
    cloudformation.get_waiter("stack_create_complete").wait(StackName="refused")
    (outputs,) = [each["Outputs"] for each in cloudformation.describe_stacks(StackName="refused")["Stacks"]]
    refused = Listener(world, outputs[0]["OutputValue"])
    report = world.repayments(1)
    report["repayments"].append({"loan_id": f"E2E-NONE-{world.number()}", "client_id": "E2E-C", "amount": 10})
    world.post("repayment", report, Prefer="wait")
    last()
    (told,) = refused.of(f"2026-10:{report['repayments'][1]['loan_id']}:10.00")
    assert (told["state"], told["problems"][0]["severity"]) == ("REJECTED", "error")
    assert {event["detail"]["state"] for event in refused.events} == {"REJECTED"}


def test_the_digest_says_what_waits(world, listener, last):
    world.post("loan_draft", world.draft(), Prefer="wait")
    text = world.digest()
    assert "to publish in PA2 > Loans > Drafts" in text
    last()
    digests = [event["detail"] for event in listener.events if event["detail-type"] == "SubmissionDigest"]
    assert [digest["text"] for digest in digests] == [text]


def test_nobody_was_named_on_the_bus_and_nothing_was_laid_aside(world, listener, last):
    last()
    told = json.dumps(listener.events, ensure_ascii=False)
    assert not [name for name in (NAME, SURNAME, "food stall", "sewing machine") if name in told]
    queue = world.stack.physical_id("OutcomesDeadLetterQueue")
    assert "Messages" not in world.stack.client("sqs").receive_message(QueueUrl=queue)
