"""What relay check says of a stack outside the sandbox: in the order in which a person puts it in."""

from types import SimpleNamespace

import boto3
import pytest
from botocore.stub import Stubber

from cli.checks import checks_of
from fakes import FakeStack

ADDRESS = "coordinator@partner.test"
PENDING = "PendingConfirmation"


@pytest.fixture
def topics(aws):
    """A topic for the alarms and one for the digest, nobody subscribed."""
    return [boto3.client("sns").create_topic(Name=name)["TopicArn"] for name in ("alarms", "digest")]


@pytest.fixture
def cloudformation(topics):
    detail = {"LogicalResourceId": "DigestTopic", "ResourceType": "AWS::SNS::Topic", "PhysicalResourceId": topics[1]}
    detail |= {"LastUpdatedTimestamp": 0, "ResourceStatus": "CREATE_COMPLETE"}
    client = boto3.client("cloudformation")
    with Stubber(client) as stubber:
        stubber.add_response("describe_stack_resource", {"StackResourceDetail": detail})
        yield client


@pytest.fixture
def found(topics, cloudformation):
    """The checks of a stack with these parameters, by name."""

    def of(sns=None, environment="stage", **parameters):
        clients = {"cloudformation": cloudformation, "sns": sns or boto3.client("sns")}
        api = SimpleNamespace(get=lambda _: {"checks": [{"name": "token", "ok": True, "detail": "from Kiva"}]})
        said = {"DeletionProtection": "on", "AlarmTopicArn": topics[0], "CoordinatorEmail": ADDRESS} | parameters
        stack = FakeStack({"KivaEnvironment": environment}, said, clients.__getitem__, api)
        return {each["name"]: each for each in checks_of(lambda _: stack, "prod")}

    return of


def subscribe(topic, protocol="sqs", endpoint="arn:aws:sqs:us-east-1:123456789012:pager"):
    boto3.client("sns").subscribe(TopicArn=topic, Protocol=protocol, Endpoint=endpoint)


def said_by_sns(*subscriptions):
    """moto confirms mail by itself; AWS waits for a person."""
    client = boto3.client("sns")
    stubber = Stubber(client)
    for arn, endpoint in subscriptions:
        one = {"SubscriptionArn": arn, "Owner": "1", "Protocol": "email", "Endpoint": endpoint, "TopicArn": "t"}
        stubber.add_response("list_subscriptions_by_topic", {"Subscriptions": [one]})
    stubber.activate()
    return client


def test_it_looks_in_the_order_in_which_it_is_put_in(found, topics):
    subscribe(topics[0])
    subscribe(topics[1], "email", ADDRESS)

    checks = found()

    assert list(checks) == ["stack", "deletion protection", "api", "token", "alarms", "digest"]
    assert all(each["ok"] for each in checks.values())


def test_a_ledger_that_anybody_deletes_is_a_cross(found):
    check = found(DeletionProtection="off")["deletion protection"]

    assert not check["ok"]
    assert "relay deploy --stage prod" in check["mend"]


def test_the_sandbox_needs_neither_protection_nor_anybody_who_is_told(found):
    checks = found(environment="sandbox", DeletionProtection="off", AlarmTopicArn="", CoordinatorEmail="")

    assert list(checks) == ["stack", "api", "token"]


def test_alarms_that_nobody_is_told_of_are_a_cross(found):
    check = found(AlarmTopicArn="")["alarms"]

    assert not check["ok"]
    assert "relay init --stage prod" in check["mend"]


def test_a_topic_without_anybody_is_a_cross(found, topics):
    check = found()["alarms"]

    assert not check["ok"]
    assert f"aws sns subscribe --topic-arn {topics[0]}" in check["mend"]


def test_one_who_has_not_confirmed_hears_nothing_yet(found):
    checks = found(said_by_sns((PENDING, "a@b.test"), (PENDING, ADDRESS)))

    assert [name for name, each in checks.items() if not each["ok"]] == ["alarms", "digest"]
    assert "confirms it" in checks["digest"]["mend"]
    assert ADDRESS not in str(checks)


def test_another_who_gets_the_digest_is_not_the_coordinator(found, topics):
    subscribe(topics[0])
    subscribe(topics[1], "email", "another@partner.test")

    assert not found()["digest"]["ok"]


@pytest.mark.parametrize("code", ["AuthorizationError", "AccessDenied"])
def test_who_may_not_look_is_told_so_and_nothing_is_wrong(found, code):
    client = boto3.client("sns")
    with Stubber(client) as stubber:
        for _ in range(2):
            stubber.add_client_error("list_subscriptions_by_topic", code)
        checks = found(client)

    assert all(each["ok"] for each in checks.values())
    assert f"may not look who gets it ({code})" in checks["alarms"]["detail"]


def test_a_topic_that_is_gone_is_a_cross(found):
    check = found(AlarmTopicArn="arn:aws:sns:us-east-1:123456789012:gone", CoordinatorEmail="")["alarms"]

    assert not check["ok"]
    assert "NotFound" in check["detail"]
