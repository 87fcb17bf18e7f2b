"""A deployed stack in an account that does not exist: each reference of the template as a real name, each policy whole.

`@cloud-copilot/iam-simulate` evaluates the policies as AWS's documents say that AWS does ("Policy evaluation logic").
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from template.cloudformation import ROOT, Template, as_deployed, defaults, listed, of_type, read, translate

ACCOUNT, REGION, STACK = "111122223333", "eu-west-1", "kiva-relay-stage"
NODE = shutil.which("node")
INSTALLED = ROOT / ".venvs" / "node" / "package.json"
SIMULATE = Path(__file__).with_name("simulate.mjs")
Context = Mapping[str, str | Sequence[str]]

_PSEUDO = {
    "AWS::AccountId": ACCOUNT, "AWS::Region": REGION, "AWS::StackName": STACK,
    "AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com",
}  # fmt: skip
_ENCRYPTION_CONTEXT = "aws:RequestTag/encryption-context-"
"""What keys of an encryption context are called for the simulator, whose list cannot have what callers make up. It
knows tags as keys that are made up, and nothing here has a condition on tags."""
_NO_VALUE = {"Ref": "AWS::NoValue"}
_NAMED_BY = {"QueueName", "TopicName", "Name", "FunctionName", "LogGroupName", "Path"}
_NAMES: Mapping[str, Mapping[str, str]] = {
    "AWS::SQS::Queue": {
        "Ref": "https://sqs.{region}.amazonaws.com/{account}/{QueueName}",
        "QueueName": "{QueueName}",
        "Arn": "arn:aws:sqs:{region}:{account}:{QueueName}",
    },
    "AWS::DynamoDB::Table": {
        "Ref": "{stack}-{name}-1A2B3C",
        "Arn": "arn:aws:dynamodb:{region}:{account}:table/{stack}-{name}-1A2B3C",
        "StreamArn": "arn:aws:dynamodb:{region}:{account}:table/{stack}-{name}-1A2B3C/stream/2026-11-28T00:00:00.000",
    },
    "AWS::S3::Bucket": {"Ref": "{stack}-{bucket}-1a2b3c", "Arn": "arn:aws:s3:::{stack}-{bucket}-1a2b3c"},
    "AWS::SecretsManager::Secret": dict.fromkeys(
        ("Ref", "Id"), "arn:aws:secretsmanager:{region}:{account}:secret:{name}-1a2b3c-4d5e6f"
    ),
    "AWS::KMS::Key": {
        "Ref": "11111111-2222-3333-4444-555555555555",
        "Arn": "arn:aws:kms:{region}:{account}:key/11111111-2222-3333-4444-555555555555",
    },
    "AWS::IAM::Role": {"Ref": "{stack}-{name}-1A2B3C", "Arn": "arn:aws:iam::{account}:role{Path}{stack}-{name}-1A2B3C"},
    "AWS::IAM::ManagedPolicy": {"Ref": "arn:aws:iam::{account}:policy/{stack}-{name}-1A2B3C"},
    "AWS::SNS::Topic": dict.fromkeys(("Ref", "TopicArn"), "arn:aws:sns:{region}:{account}:{TopicName}"),
    "AWS::Events::EventBus": {"Ref": "{Name}", "Arn": "arn:aws:events:{region}:{account}:event-bus/{Name}"},
    "AWS::Lambda::Function": {
        "Ref": "{FunctionName}",
        "Arn": "arn:aws:lambda:{region}:{account}:function:{FunctionName}",
    },
    "AWS::ApiGateway::RestApi": {"Ref": "relayapi00"},
}
"""What `Ref` and attributes give of a resource, as its page in the CloudFormation reference says."""

_BY_AWS = {
    "AWSLambdaBasicExecutionRole": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
    "AWSXrayWriteOnlyAccess": [
        "xray:PutTraceSegments", "xray:PutTelemetryRecords", "xray:GetSamplingRules", "xray:GetSamplingTargets",
        "xray:GetSamplingStatisticSummaries",
    ],
}  # fmt: skip
"""Policies of AWS's own, as its "AWS Managed Policy Reference" lists them; each on every resource."""


@dataclass(frozen=True)
class Request:
    """An action on a resource, with what AWS knows of the request besides who makes it."""

    action: str
    resource: str
    context: Context = field(default_factory=dict)


@dataclass(frozen=True)
class Principal:
    """Who asks: an ARN, and its own policies. Of a role the ARN is the role's; AWS's session in it has another one."""

    arn: str
    policies: Sequence[Mapping[str, Any]]

    @property
    def account(self) -> str:
        return self.arn.split(":")[4]

    def simulated(self) -> str:
        """The ARN of the session that makes the request."""
        if ":role/" not in self.arn:
            return self.arn
        name = self.arn.rsplit("/", 1)[1]
        return f"arn:aws:sts::{self.account}:assumed-role/{name}/session"


class Account:
    """The stack as it stands in the account."""

    def __init__(self, source: Template | None = None, **parameters: str) -> None:
        given = {"KivaEnvironment": "stage", "KivaPartnerId": "9001", **parameters}
        translated = translate(source or read(), given)
        self._parameters = defaults(translated) | given
        self._mappings = translated.get("Mappings", {})
        self._resources = as_deployed(translated, given)["Resources"]
        self.resources: Template = {"Resources": {name: self._whole(it) for name, it in self._resources.items()}}

    def arn(self, name: str) -> str:
        """Of a resource by its logical id."""
        reference = self._physical(name, "Ref")
        return reference if reference.startswith("arn:") else self._physical(name, "Arn")

    def function(self, name: str) -> Principal:
        """A function, in its role."""
        role = f"{name}Role"
        properties = self.resources["Resources"][role]["Properties"]
        own = [each["PolicyDocument"] for each in properties.get("Policies", [])]
        shared = of_type(self.resources, "AWS::IAM::ManagedPolicy")
        of_stack = {self.arn(it): policy["PolicyDocument"] for it, policy in shared.items()}
        managed = [
            of_stack.get(it) or allow(_BY_AWS[it.rsplit("/", 1)[1]], "*") for it in properties["ManagedPolicyArns"]
        ]
        return Principal(self.arn(role), [*own, *managed])

    def variable(self, function: str, name: str) -> str:
        """One of a function's environment."""
        variables = self.resources["Resources"][function]["Properties"]["Environment"]["Variables"]
        return str(variables[name])

    def identity_policies(self) -> dict[str, Mapping[str, Any]]:
        """Every policy of the template that belongs to somebody and not to something, by a name."""
        managed = of_type(self.resources, "AWS::IAM::ManagedPolicy")
        roles = of_type(self.resources, "AWS::IAM::Role").values()
        return {name: it["PolicyDocument"] for name, it in managed.items()} | {
            each["PolicyName"]: each["PolicyDocument"] for it in roles for each in it.get("Policies", [])
        }

    def policy_of(self, resource: str) -> Mapping[str, Any] | None:
        """The policy that a resource itself has, by its ARN."""
        for name, it in self.resources["Resources"].items():
            properties = it.get("Properties", {})
            match it["Type"]:
                case "AWS::KMS::Key":
                    of, policy = [self.arn(name)], properties["KeyPolicy"]
                case "AWS::SecretsManager::ResourcePolicy":
                    of, policy = [properties["SecretId"]], properties["ResourcePolicy"]
                case "AWS::S3::BucketPolicy":
                    of, policy = [f"arn:aws:s3:::{properties['Bucket']}"], properties["PolicyDocument"]
                case "AWS::SQS::QueuePolicy":
                    names = [url.rsplit("/", 1)[1] for url in properties["Queues"]]
                    of, policy = [f"arn:aws:sqs:{REGION}:{ACCOUNT}:{it}" for it in names], properties["PolicyDocument"]
                case "AWS::ApiGateway::RestApi":
                    of, policy = [self._api(name)], properties["Body"]["x-amazon-apigateway-policy"]
                case _:
                    continue
            if {resource, resource.split("/", maxsplit=1)[0]} & set(of):
                return _of(policy, resource)
        return None

    def route(self, method: str, path: str) -> str:
        """A route of the API as IAM names it."""
        return f"{self._api('RelayApi')}/v1/{method}{path}"

    def _api(self, name: str) -> str:
        return f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{self._reference(name)}"

    def _whole(self, node: Any) -> Any:  # noqa: PLR0911 a case for each form
        """The same with every reference replaced."""
        match node:
            case {"Ref": str(name)} if len(node) == 1:
                return self._reference(name)
            case {"Fn::GetAtt": [str(name), str(attribute)]}:
                return self._attribute(name, attribute)
            case {"Fn::Sub": str(text)}:
                return re.sub(r"\$\{([^}]+)\}", lambda it: str(self._named(it[1])), text)
            case {"Fn::Split": [str(by), text]}:
                return self._whole(text).split(by)
            case {"Fn::FindInMap": [str(name), first, str(second)]}:
                return self._mappings[name][self._whole(first)][second]
            case dict():
                return {key: self._whole(it) for key, it in node.items() if it != _NO_VALUE}
            case list():
                return [self._whole(it) for it in node if it != _NO_VALUE]
        return node

    def _named(self, name: str) -> Any:
        return self._attribute(*name.split(".", 1)) if "." in name else self._reference(name)

    def _reference(self, name: str) -> Any:
        given = _PSEUDO | self._parameters
        return given[name] if name in given else self._physical(name, "Ref")

    def _attribute(self, name: str, attribute: str) -> Any:
        return self._physical(name, attribute)

    def _physical(self, name: str, what: str) -> str:
        """What CloudFormation gives for Ref or an attribute of a resource."""
        resource = self._resources[name]
        names = _NAMES.get(resource["Type"], {})
        properties = {"Path": "/", **resource.get("Properties", {})}
        used = {it: self._whole(properties[it]) for it in _NAMED_BY & properties.keys()}
        return names.get(what, f"{{stack}}-{{name}}-{what}").format(
            region=REGION, account=ACCOUNT, stack=STACK, name=name, bucket=name.lower(), **used
        )


def allow(actions: Iterable[str], *resources: str) -> Mapping[str, Any]:
    """A policy that allows these actions on these resources."""
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": list(resources)}],
    }


def _by_aws(arn: str) -> Mapping[str, Any]:
    return allow(_BY_AWS[arn.rsplit("/", 1)[1]], "*")


def _of(policy: Mapping[str, Any], resource: str) -> Mapping[str, Any]:
    """A resource's policy with itself where it says "*", and with the ARN where the API's policy has its short form."""
    short, api = "execute-api:/", resource.split("/", maxsplit=1)[0] + "/"
    whole = [
        {**it, "Resource": [resource if to == "*" else to.replace(short, api) for to in listed(it["Resource"])]}
        for it in policy["Statement"]
    ]
    return {**policy, "Statement": whole}


def answers(account: Account, asked: Sequence[tuple[Principal, Request]]) -> list[str]:
    """What AWS would say to each: Allowed, ExplicitlyDenied or ImplicitlyDenied.

    Raises:
        AssertionError: The simulator does not understand a request, which is a mistake of the test.
    """
    simulations = json.dumps([_simulation(account, who, request) for who, request in asked])
    simulations = simulations.replace("kms:EncryptionContext:", _ENCRYPTION_CONTEXT)
    ran = subprocess.run(  # noqa: S603 it is fixed
        [str(NODE), SIMULATE, INSTALLED], input=simulations, capture_output=True, text=True, check=True
    )
    found: list[str] = json.loads(ran.stdout)
    for (_, request), answer in zip(asked, found, strict=True):
        assert not answer.startswith("error"), (request, answer)
    return found


def _simulation(account: Account, who: Principal, request: Request) -> Mapping[str, Any]:
    context = {"aws:PrincipalArn": who.arn, "aws:PrincipalAccount": who.account, "aws:SecureTransport": "true"}
    return {
        "request": {
            "principal": who.simulated(),
            "action": request.action,
            "resource": {"resource": request.resource, "accountId": ACCOUNT},
            "contextVariables": {**context, **request.context},
        },
        "identityPolicies": [{"name": str(n), "policy": it} for n, it in enumerate(who.policies)],
        "serviceControlPolicies": [],
        "resourceControlPolicies": [],
        "resourcePolicy": account.policy_of(request.resource),
    }
