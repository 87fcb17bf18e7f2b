"""`relay pause` and `relay resume`: what the relay and AWS are told, and what a person reads."""

import json

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from kiva_partner.messages import Kind

MAPPINGS = {f"{name}FromQueue": f"uuid-of-{name}" for name in ("LoanDrafts", "JournalUpdates", "Repayments")}
PAUSED = {"by": "arn:aws:iam::1:user/ann", "reason": "exported twice", "at": "2026-11-28T10:00:00+00:00"}


class Lambda:
    """Event source mappings, and whoever may not change them."""

    def __init__(self):
        self.enabled = {}
        self.refuses = ""

    def update_event_source_mapping(self, UUID, Enabled):  # noqa: N803 boto3's
        if self.refuses:
            raise ClientError({"Error": {"Code": self.refuses, "Message": "no"}}, "UpdateEventSourceMapping")
        self.enabled[UUID] = Enabled


@pytest.fixture
def mappings():
    return Lambda()


class CloudWatch:
    """How old the oldest message of a queue was."""

    def __init__(self):
        self.seconds = {}

    def get_metric_statistics(self, MetricName, Dimensions, **_):  # noqa: N803 boto3's
        assert MetricName == "ApproximateAgeOfOldestMessage"
        (queue,) = Dimensions
        seconds = self.seconds.get(queue["Value"])
        return {"Datapoints": [{"Maximum": float(seconds)}] if seconds is not None else []}


@pytest.fixture
def cloudwatch():
    return CloudWatch()


@pytest.fixture
def stack(stack, mappings, cloudwatch):
    with mock_aws():
        sqs = boto3.client("sqs", region_name="us-east-1")
        queues = {
            f"{name}QueueUrl": sqs.create_queue(QueueName=name)["QueueUrl"]
            for name in ("LoanDrafts", "JournalUpdates", "Repayments")
        }
        for _ in range(3):
            sqs.send_message(QueueUrl=queues["RepaymentsQueueUrl"], MessageBody="{}")
        stack.outputs = {**stack.outputs, **queues}
        stack.typed = {"AWS::Lambda::EventSourceMapping": MAPPINGS}
        clients = {"lambda": mappings, "sqs": sqs, "cloudwatch": cloudwatch}
        stack.client = clients.__getitem__
        yield stack


def told(*paused, restored=False):
    """As the API answers."""
    kinds = [{"kind": kind, **({"paused": PAUSED} if kind in paused else {})} for kind in Kind]
    says = [f"{kind} is paused by {PAUSED['by']}: {PAUSED['reason']}" for kind in paused]
    return {"restored": restored, "says": says, "kinds": kinds}


def squeezed(text):
    return " ".join(text.split())


def test_to_pause_a_kind_tells_the_relay_and_stops_what_receives_its_messages(run, relay, mappings):
    relay.answers = [told("repayment")]
    ran = run("pause", "repayment", "--reason", "exported twice")
    assert ran.exit_code == 0
    assert relay.posted == [(("pause",), {"reason": "exported twice", "kind": "repayment"})]
    assert mappings.enabled == {"uuid-of-Repayments": False}
    said = squeezed(ran.stdout)
    assert "repayment is paused by arn:aws:iam::1:user/ann: exported twice" in said
    assert "Repayments: 3 messages wait; the queue keeps each for 7 days, what comes today until 2026-12-05" in said
    assert "relay resume repayment --stage local --reason …" in said


@pytest.mark.parametrize(
    ("days", "said"), [(6.5, "the oldest for 12 h more"), (7.1, "the oldest is about to go"), (0, "2026-12-05 To go")]
)
def test_for_how_long_the_queue_keeps_the_oldest_is_said(run, relay, cloudwatch, days, said):
    relay.answers = [told("repayment")]
    cloudwatch.seconds = {"Repayments": int(days * 86400)}
    assert said in squeezed(run("pause", "repayment", "--reason", "exported twice").stdout)


def test_without_a_kind_everything_is_paused(run, relay, mappings):
    relay.answers = [told(*Kind)]
    run("pause", "--reason", "maintenance")
    assert relay.posted == [(("pause",), {"reason": "maintenance"})]
    assert mappings.enabled == dict.fromkeys(MAPPINGS.values(), False)


def test_who_may_not_change_lambda_has_paused_it_all_the_same_and_hears_for_how_long(run, relay, mappings):
    relay.answers = [told("repayment")]
    mappings.refuses = "AccessDeniedException"
    ran = run("pause", "repayment", "--reason", "exported twice")
    assert ran.exit_code == 0
    said = squeezed(ran.stdout)
    assert "Lambda goes on receiving them (AWS says AccessDeniedException); nothing is sent" in said
    assert "after 4 days they become dead letters" in said


def test_what_the_relay_has_not_paused_goes_on_being_received(run, relay, mappings):
    relay.answers = [ConnectionError()]
    assert run("pause", "--reason", "maintenance").exit_code != 0
    assert mappings.enabled == {}


def test_to_resume_tells_the_relay_and_has_messages_be_received_again(run, relay, mappings):
    relay.answers = [told()]
    ran = run("resume", "repayment", "--reason", "withdrawn")
    assert ran.exit_code == 0
    assert relay.posted == [(("resume",), {"reason": "withdrawn", "kind": "repayment"})]
    assert mappings.enabled == {"uuid-of-Repayments": True}
    assert "Repayments: 3 messages wait; those that were received meanwhile are retried within" in squeezed(ran.stdout)


def test_a_queue_that_may_still_not_be_received_is_no_success(run, relay, mappings):
    relay.answers = [told()]
    mappings.refuses = "ResourceInUseException"
    ran = run("resume", "repayment", "--reason", "withdrawn")
    assert ran.exit_code == 1
    assert "repeat this command" in squeezed(ran.stdout)


def test_a_restored_ledger_is_confirmed_after_a_question_and_no_pause_ends_by_it(run, relay, mappings):
    relay.answers = [told()]
    ran = run("resume", "--restored", "--reason", "nothing was sent meanwhile", typed="y\n")
    assert ran.exit_code == 0
    assert relay.posted == [(("resume",), {"reason": "nothing was sent meanwhile", "restored": True})]
    assert mappings.enabled == {}
    assert "Kiva has it twice" in squeezed(ran.stderr)


def test_who_says_no_to_the_question_has_confirmed_nothing(run, relay):
    assert run("resume", "--restored", "--reason", "perhaps", typed="n\n").exit_code == 130
    assert relay.posted == []


def test_in_production_a_restored_ledger_is_confirmed_in_words(run, relay, stack):
    stack.outputs = {**stack.outputs, "KivaEnvironment": "production"}
    assert run("resume", "--restored", "--reason", "judged", typed="y\n").exit_code == 130
    relay.answers = [told()]
    assert run("resume", "--restored", "--reason", "judged", typed="production\n").exit_code == 0


def test_a_restored_ledger_is_confirmed_as_a_whole(run, relay):
    assert run("resume", "repayment", "--restored", "--reason", "judged").exit_code == 2
    assert relay.posted == []


def test_a_program_gets_the_answer_with_the_queues(run, relay):
    relay.answers = [told("repayment")]
    document = json.loads(run("pause", "repayment", "--reason", "x", "--json").stdout)
    assert document["queues"] == [{"kind": "repayment", "messages": 3, "unchanged": "", "oldest_seconds": None}]
    assert document["kinds"][2]["paused"] == PAUSED
