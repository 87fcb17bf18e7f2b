"""`relay check`: whether everything between this machine and Kiva works together, and whom alarms are told."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from cli.relay_api import NoAnswer, Refused
from cli.stacks import NoSuchStack, StackOfStage

Check = Mapping[str, Any]
"""Its name, whether it is ok, a detail, and how to mend it."""

_DENIED: Final = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException"}
_MAY_NOT_LOOK: Final = "you may not look who gets it ({})"
_CONFIRM: Final = (
    "the link in AWS's mail confirms it, for two days; a new mail is sent by:"
    " aws sns subscribe --topic-arn {} --protocol email --notification-endpoint ADDRESS"
)


def checks_of(stack_of: Callable[[str], StackOfStage], stage: str) -> Iterator[Check]:
    """What a stack needs, in the order in which it is put in; what comes behind something that fails may be unknown."""
    try:
        stack = stack_of(stage)
        told = f"{stack.name} talks to Kiva's {stack.output('KivaEnvironment')}"
    except (NoSuchStack, ClientError, BotoCoreError) as error:
        yield _check("stack", "cannot be looked at", str(error))
        return
    yield _check("stack", told)
    real = stack.output("KivaEnvironment") != "sandbox"
    if real:
        yield _protection(stack, stage)
    yield from _at_kiva(stack)
    if real or stack.parameters.get("AlarmTopicArn"):
        yield _alarms(stack, stage)
    if stack.parameters.get("CoordinatorEmail"):
        yield _digest(stack)


def _check(name: str, detail: str, mend: str = "") -> Check:
    return {"name": name, "ok": not mend, "detail": detail, "mend": mend}


def _protection(stack: StackOfStage, stage: str) -> Check:
    if stack.parameters.get("DeletionProtection") == "on":
        return _check("deletion protection", "the ledger cannot be deleted by mistake")
    mend = f"relay deploy --stage {stage} puts it on, unless samconfig.toml says DeletionProtection=off"
    return _check("deletion protection", "is off: one call deletes the ledger", mend)


def _at_kiva(stack: StackOfStage) -> Iterator[Check]:
    """What the stack itself says, which asks Kiva: credentials, token, partner, scopes and lists."""
    mend, found = "", list[Check]()
    try:
        found = stack.api.get("check")["checks"]
    except (NoSuchStack, NoAnswer) as error:
        mend = str(error)
    except Refused as error:
        mend = {
            401: "your AWS credentials are not valid; log in again",
            403: "ask for execute-api:Invoke on the stack's API; or the stack is of an older version: deploy this one",
            404: "the stack is of an older version: deploy this one",
        }.get(error.status, str(error))
    yield _check("api", "does not answer you" if mend else "answers you", mend)
    yield from found


def _alarms(stack: StackOfStage, stage: str) -> Check:
    """Whether an alarm is told to somebody."""
    name, topic = "alarms", stack.parameters.get("AlarmTopicArn", "")
    if not topic:
        return _check(name, "are told to nobody", f"relay init --stage {stage} asks for AlarmTopicArn; then deploy")
    try:
        found = _subscriptions(stack, topic)
    except ClientError as error:
        return _cannot_look(name, error)
    if confirmed := [each for each in found if _is_confirmed(each)]:
        return _check(name, f"{topic} tells {len(confirmed)}")
    if found:
        return _check(name, f"nobody has confirmed yet that they want {topic}", _CONFIRM.format(topic))
    mend = f"aws sns subscribe --topic-arn {topic} --protocol email --notification-endpoint ADDRESS"
    return _check(name, f"nobody has subscribed to {topic}", mend)


def _digest(stack: StackOfStage) -> Check:
    """Whether the coordinator has confirmed that they want the digest."""
    name, address = "digest", stack.parameters["CoordinatorEmail"]
    try:
        found = stack.client("cloudformation").describe_stack_resource(
            StackName=stack.name, LogicalResourceId="DigestTopic"
        )
        topic = found["StackResourceDetail"]["PhysicalResourceId"]
        theirs = [each for each in _subscriptions(stack, topic) if each["Endpoint"] == address]
    except ClientError as error:
        return _cannot_look(name, error)
    if any(map(_is_confirmed, theirs)):
        return _check(name, "the coordinator gets it by mail")
    return _check(name, "the coordinator has not confirmed yet that they want it", _CONFIRM.format(topic))


def _subscriptions(stack: StackOfStage, topic: str) -> Sequence[Mapping[str, Any]]:
    pages = stack.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    return [each for page in pages for each in page["Subscriptions"]]


def _is_confirmed(subscription: Mapping[str, Any]) -> bool:
    """Before that it has no ARN, but the word PendingConfirmation (SNS API Reference, Subscription)."""
    return str(subscription["SubscriptionArn"]).startswith("arn:")


def _cannot_look(name: str, error: ClientError) -> Check:
    """Not being allowed to look is no fault of the stack."""
    code = error.response["Error"]["Code"]
    if code in _DENIED:
        return _check(name, _MAY_NOT_LOOK.format(code))
    return _check(name, f"cannot be looked at: {code}", "see that the topic is there, in the stack's region")
