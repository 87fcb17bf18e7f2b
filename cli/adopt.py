"""`relay adopt`: what a deleted stack has left behind becomes part of a new stack of the same name.

A change set of type IMPORT makes a stack of the resources that are there, by a template with nothing else in it; a
usual deployment then adds the rest. (CloudFormation User Guide, "Import AWS resources into a CloudFormation stack"; by
what each type is identified: the same guide, "Resource type support".)
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from botocore.exceptions import WaiterError

from cli.deploy import NotDeployed, live
from cli.stacks import StackOfStage
from cli.templates import Chosen, Template

IDENTIFIERS: Final = {
    "AWS::DynamoDB::Table": "TableName",
    "AWS::Events::EventBus": "Name",
    "AWS::KMS::Key": "KeyId",
    "AWS::S3::Bucket": "BucketName",
    "AWS::SQS::Queue": "QueueUrl",
    "AWS::SecretsManager::ResourcePolicy": "Id",
    "AWS::SecretsManager::Secret": "Id",  # pragma: allowlist secret
}
"""Types that hold something worth adopting, each with what identifies one of them."""
TAG: Final = "kiva-relay-stack"
WAIT_SECONDS: Final = 5

_TAGGED: Final = {
    "AWS::DynamoDB::Table": r"arn:[^:]+:dynamodb:[^:]*:[^:]*:table/([^/]+)",
    "AWS::KMS::Key": r"arn:[^:]+:kms:[^:]*:[^:]*:key/(.+)",
    "AWS::S3::Bucket": r"arn:[^:]+:s3:::([^/]+)",
    "AWS::SecretsManager::Secret": r"(arn:[^:]+:secretsmanager:[^:]*:[^:]*:secret:.+)",
}
"""Types without a name of their own, which are found by their tag: what of the ARN identifies one."""
_PSEUDO: Final = "AWS::"


class Leftover(NamedTuple):
    """A resource that is there: what the template calls it, its type, and what identifies it."""

    logical_id: str
    type: str
    physical_id: str


# --- the template -----------------------------------------------------------------------------------------------------


def retained(template: Template) -> dict[str, str]:
    """The resources of a template that outlive their stack and hold something: the type of each, by logical id."""
    return {
        name: it["Type"]
        for name, it in template["Resources"].items()
        if it["Type"] in IDENTIFIERS and it.get("DeletionPolicy") in ("Retain", "RetainExceptOnCreate")
    }


def reduced(template: Template, names: Sequence[str]) -> dict[str, Any]:
    """The template with nothing but these resources, and the parameters, conditions and mappings that they need.

    Each is retained whatever happens: RetainExceptOnCreate would let the rollback of a failed import delete it.

    Raises:
        NotDeployed: one of them refers to a resource that is not among them.
    """
    resources = {
        name: {key: value for key, value in template["Resources"][name].items() if key not in ("DependsOn", "Metadata")}
        | {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
        for name in names
    }
    conditions: dict[str, Any] = {}
    while more := set(_needed([resources, conditions], "Condition")) - conditions.keys():
        conditions |= {name: template["Conditions"][name] for name in more}
    referred = set(_needed([resources, conditions], "Ref"))
    if missing := sorted(referred & template["Resources"].keys() - resources.keys()):
        raise NotDeployed(
            f"{', '.join(missing)}: is not there, and what is there refers to it ({', '.join(names)})."
            " Name the right one with --resource LogicalId=PhysicalId."
        )
    parts = {
        "Parameters": {it: template["Parameters"][it] for it in template["Parameters"] if it in referred},
        "Mappings": {it: template["Mappings"][it] for it in set(_needed(resources, "Fn::FindInMap"))},
        "Conditions": conditions,
        "Resources": resources,
    }
    return {"AWSTemplateFormatVersion": "2010-09-09"} | {name: part for name, part in parts.items() if part}


def _needed(node: Any, kind: str) -> Iterator[str]:
    """The names that a part of a template refers to: of resources and parameters (Ref), conditions, or mappings."""
    if isinstance(node, list):
        for each in node:
            yield from _needed(each, kind)
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _named(key, value, kind)
            yield from _needed(value, kind)


def _named(key: str, value: Any, kind: str) -> Iterator[str]:
    match key:
        case "Condition" if kind == key and isinstance(value, str):
            yield value
        case "Fn::If" if kind == "Condition":
            yield value[0]
        case "Fn::FindInMap" if kind == key:
            yield value[0]
        case "Ref" if kind == key and not value.startswith(_PSEUDO):
            yield value
        case "Fn::GetAtt" if kind == "Ref":
            yield value[0]
        case "Fn::Sub" if kind == "Ref":
            text = value if isinstance(value, str) else value[0]
            found = re.findall(r"\$\{([^!}.]+)[^}]*\}", text)
            yield from (name for name in found if not name.startswith(_PSEUDO))


# --- what is there ----------------------------------------------------------------------------------------------------


def leftovers(stack: StackOfStage, template: Template, chosen: Mapping[str, str]) -> list[Leftover]:
    """What an earlier stack of this name has left, one for each logical id; `chosen` names those that a person chose.

    Raises:
        NotDeployed: nothing is there, or several could be meant, or one is about to be deleted.
    """
    types = retained(template)
    if unknown := chosen.keys() - types.keys():
        raise NotDeployed(f"{', '.join(sorted(unknown))}: not of these: {', '.join(types)}")
    tagged = _tagged(stack)
    found: list[Leftover] = []
    doubtful: list[str] = []
    for name, kind in types.items():
        if kind == "AWS::SecretsManager::ResourcePolicy":
            continue
        candidates = [chosen[name]] if name in chosen else list(_candidates(stack, template, name, tagged))
        if len(candidates) > 1:
            doubtful.append(f"{name} could be {', '.join(candidates)}: say which with --resource {name}=…")
        found += [Leftover(name, kind, it) for it in candidates]
    doubtful += [problem for it in found if (problem := _doomed(stack, it))]
    if doubtful:
        raise NotDeployed("\n".join(doubtful))
    if not found:
        raise NotDeployed(f"Nothing is here that a stack {stack.name} has left behind: relay deploy makes a new one.")
    if "AWS::DynamoDB::Table" not in {it.type for it in found}:
        raise NotDeployed(
            f"The ledger is not here: no table has the tag {TAG}={stack.name}. Without it all would be sent again:"
            " name it with --resource LedgerTable=…"
        )
    return found + list(_policies(stack, types, found))


def _candidates(stack: StackOfStage, template: Template, name: str, tagged: Sequence[str]) -> Iterator[str]:
    """By its name where the template gives it one, which is unique; else by the tag."""
    resource = template["Resources"][name]
    match resource["Type"]:
        case "AWS::SQS::Queue":
            yield from _queue(stack, _literal(resource["Properties"]["QueueName"], stack.name))
        case "AWS::Events::EventBus":
            yield from _bus(stack, _literal(resource["Properties"]["Name"], stack.name))
        case kind:
            yield from (found[1] for arn in tagged if (found := re.fullmatch(_TAGGED[kind], arn)))


def _tagged(stack: StackOfStage) -> list[str]:
    pages = (
        stack.client("resourcegroupstaggingapi")
        .get_paginator("get_resources")
        .paginate(TagFilters=[{"Key": TAG, "Values": [stack.name]}])
    )
    return [each["ResourceARN"] for page in pages for each in page["ResourceTagMappingList"]]


def _queue(stack: StackOfStage, name: str) -> Iterator[str]:
    sqs = stack.client("sqs")
    try:
        yield sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except sqs.exceptions.QueueDoesNotExist:
        return


def _bus(stack: StackOfStage, name: str) -> Iterator[str]:
    events = stack.client("events")
    try:
        yield events.describe_event_bus(Name=name)["Name"]
    except events.exceptions.ResourceNotFoundException:
        return


def _literal(value: Any, stack: str) -> str:
    """A name in the template, which is made of the stack's name alone."""
    text: str = value if isinstance(value, str) else value.get("Fn::Sub", "${AWS::StackName}")
    return text.replace("${AWS::StackName}", stack)


def _doomed(stack: StackOfStage, it: Leftover) -> str:
    """What somebody has to be called back before it can be adopted."""
    match it.type:
        case "AWS::KMS::Key":
            state = stack.client("kms").describe_key(KeyId=it.physical_id)["KeyMetadata"]["KeyState"]
            if state == "PendingDeletion":
                return f"{it.logical_id} is to be deleted: aws kms cancel-key-deletion --key-id {it.physical_id}"
            if state != "Enabled":
                return f"{it.logical_id} is {state}: aws kms enable-key --key-id {it.physical_id}"
        case "AWS::SecretsManager::Secret":
            if "DeletedDate" in stack.client("secretsmanager").describe_secret(SecretId=it.physical_id):
                return f"{it.logical_id} is deleted: aws secretsmanager restore-secret --secret-id {it.physical_id}"
    return ""


def _policies(stack: StackOfStage, types: Mapping[str, str], found: Sequence[Leftover]) -> Iterator[Leftover]:
    """A secret's policy goes by the secret's ARN (its page of the Template Reference: Id)."""
    secrets = [it.physical_id for it in found if it.type == "AWS::SecretsManager::Secret"]
    for name, kind in types.items():
        if kind == "AWS::SecretsManager::ResourcePolicy" and secrets:
            policy = stack.client("secretsmanager").get_resource_policy(SecretId=secrets[0])
            if policy.get("ResourcePolicy"):
                yield Leftover(name, kind, policy["ARN"])


def left_behind(stack: StackOfStage, template: Template) -> list[str]:
    """The names of queues that are there already, and at which a new stack of this name would fail."""
    names = (
        _literal(template["Resources"][name]["Properties"]["QueueName"], stack.name)
        for name, kind in retained(template).items()
        if kind == "AWS::SQS::Queue"
    )
    return [name for name in names if list(_queue(stack, name))]


# --- the import -------------------------------------------------------------------------------------------------------


def prepare(stack: StackOfStage, template: Template, found: Sequence[Leftover], parameters: Chosen) -> str:
    """Make the change set, and give its id; nothing is changed yet.

    Raises:
        NotDeployed: there is such a stack, or CloudFormation does not take the change set.
    """
    if live(stack):
        raise NotDeployed(f"The stack {stack.name} is there. Only what a deleted stack has left behind is adopted.")
    body = reduced(template, [it.logical_id for it in found])
    client = stack.client("cloudformation")
    made = client.create_change_set(
        StackName=stack.name,
        ChangeSetName=f"adopt-{int(time.time())}",
        ChangeSetType="IMPORT",
        TemplateBody=json.dumps(body),
        Parameters=[{"ParameterKey": name, "ParameterValue": parameters[name]} for name in body.get("Parameters", {})],
        ResourcesToImport=[
            {
                "ResourceType": it.type,
                "LogicalResourceId": it.logical_id,
                "ResourceIdentifier": {IDENTIFIERS[it.type]: it.physical_id},
            }
            for it in found
        ],
    )
    change_set: str = made["Id"]
    with suppress(WaiterError):  # it failed: what follows says why
        client.get_waiter("change_set_create_complete").wait(ChangeSetName=change_set, WaiterConfig=_patience())
    described = client.describe_change_set(ChangeSetName=change_set)
    if described["ExecutionStatus"] != "AVAILABLE":
        raise NotDeployed(f"CloudFormation does not adopt them: {described.get('StatusReason', described['Status'])}")
    return change_set


def _patience() -> dict[str, int]:
    return {"Delay": WAIT_SECONDS}


def imported(stack: StackOfStage, change_set: str) -> list[Leftover]:
    """What the change set says that it will import."""
    pages = stack.client("cloudformation").get_paginator("describe_change_set").paginate(ChangeSetName=change_set)
    changes = (each["ResourceChange"] for page in pages for each in page["Changes"])
    return [Leftover(it["LogicalResourceId"], it["ResourceType"], it.get("PhysicalResourceId", "")) for it in changes]


def execute(stack: StackOfStage, change_set: str) -> None:
    """Import, and wait until the stack is there.

    Raises:
        NotDeployed: it failed; then nothing of what was to be adopted has changed.
    """
    client = stack.client("cloudformation")
    client.execute_change_set(ChangeSetName=change_set)
    try:
        client.get_waiter("stack_import_complete").wait(StackName=stack.name, WaiterConfig=_patience())
    except WaiterError:
        raise NotDeployed(
            f"The import failed, and nothing of it has changed. Why: aws cloudformation describe-stack-events"
            f" --stack-name {stack.name}. Then delete that stack, which holds nothing, and adopt again."
        ) from None
