"""Where the stack of a stage is: its name and region from samconfig.toml, and what it says about itself."""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import boto3
import botocore.session
from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from botocore.exceptions import NoCredentialsError

from cli.relay_api import RelayApi

KINDS: Final = {"loan_draft": "LoanDrafts", "journal_update": "JournalUpdates", "repayment": "Repayments"}
"""Kind of submission -> the prefix of its logical ids in the template."""

LONGEST_NAME: Final = 48
"""Characters of a stack's name: a function's name has 64 at most, and those of `-journal-updates` come behind it.

Source: Lambda API Reference, CreateFunction; tests/template holds it against every name of the template.
"""

DEAD_LETTERS: Final = {kind: f"{prefix}DeadLetterQueueUrl" for kind, prefix in KINDS.items()} | {
    "outcomes": "OutcomesDeadLetterQueueUrl"
}
"""What dead letters are of -> the output with their queue."""

CHECKOUT: Final = Path(__file__).parents[1]


class NoSuchStack(Exception):
    """The stack cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class StackOfStage:
    """A deployed stack, looked at with the operator's own AWS credentials.

    `local_api` is where the API of the stack on this machine answers; empty for a stack in AWS.
    """

    name: str
    session: boto3.Session
    endpoint: str | None = None
    local_api: str = ""

    def client(self, service: str) -> Any:
        """A boto3 client of the account that the stack is in."""
        config = Config(proxies={}) if self.endpoint else None
        return self.session.client(service, endpoint_url=self.endpoint, config=config)

    @cached_property
    def outputs(self) -> dict[str, str]:
        """What the stack says about itself."""
        return {each["OutputKey"]: each["OutputValue"] for each in self._described.get("Outputs", [])}

    @cached_property
    def parameters(self) -> dict[str, str]:
        """What it was deployed with."""
        return {each["ParameterKey"]: each["ParameterValue"] for each in self._described.get("Parameters", [])}

    def resources(self, kind: str) -> dict[str, str]:
        """What AWS calls its resources of a type (`AWS::CloudWatch::Alarm`), by their names in the template."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.name)
        every = (each for page in pages for each in page["StackResourceSummaries"])
        return {it["LogicalResourceId"]: it["PhysicalResourceId"] for it in every if it["ResourceType"] == kind}

    @property
    def api(self) -> RelayApi:
        """The relay's API. Raises NoSuchStack when there are no credentials to sign with."""
        credentials = self.session.get_credentials()
        if credentials is None:
            raise NoSuchStack("There are no AWS credentials to sign with; log in first (for example: aws sso login).")
        return RelayApi(self.local_api or self.output("ApiUrl"), credentials, self.session.region_name)

    def output(self, name: str) -> str:
        """One of the outputs. Raises NoSuchStack when this version of the stack has none of that name."""
        if name not in self.outputs:
            raise NoSuchStack(f"The stack {self.name} has no output {name}; deploy this version of it first.")
        return self.outputs[name]

    def parameter(self, name: str) -> str:
        """One of the parameters. Raises NoSuchStack when this version of the stack has none of that name."""
        if name not in self.parameters:
            raise NoSuchStack(f"The stack {self.name} has no parameter {name}; deploy this version of it first.")
        return self.parameters[name]

    @cached_property
    def _described(self) -> dict[str, Any]:
        try:
            stack: dict[str, Any] = self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]
        except NoCredentialsError:
            raise NoSuchStack("There are no AWS credentials; log in first (for example: aws sso login).") from None
        return stack


def stack_of(stage: str) -> StackOfStage:
    """The stack of a stage, by samconfig.toml (see `project`); for `local` the one that `make up` keeps running.

    Raises:
        NoSuchStack: there is no such stage, or nothing runs on this machine.
    """
    folder = project()
    name, region = find(stage, (folder / "samconfig.toml").read_text(encoding="utf-8"))
    if stage != "local":
        return StackOfStage(name, boto3.Session(region_name=region))
    try:
        running = json.loads((folder / ".local" / "stack" / "stack.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NoSuchStack("No stack is running on this machine. Start one: make up") from None
    return local_stack(name, running["endpoint"], running["api"], region)


def local_stack(name: str, endpoint: str, api: str, region: str) -> StackOfStage:
    """The stack in an imitation of AWS on this machine."""
    return StackOfStage(name, local_owner(region), endpoint, api)


@cache
def local_owner(region: str) -> boto3.Session:
    """The owner of the account in an imitation of AWS on this machine, who is called `test`.

    What a person has set for real accounts, in variables (AWS_PROFILE, AWS_CA_BUNDLE …) or files, has no say in it: of
    each setting the default holds, without the names by which it would be looked up.
    """
    defaults = {
        name: (None, None, default, conversion)
        for name, (_, _, default, conversion) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
    }
    files = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    alone = botocore.session.Session(session_vars=defaults | files)
    return boto3.Session("test", "test", region_name=region, botocore_session=alone)


def project() -> Path:
    """The folder whose samconfig.toml counts: the current one, the nearest above it, or where this was checked out.

    Raises:
        NoSuchStack: there is none.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, CHECKOUT):
        if (folder / "samconfig.toml").is_file():
            return folder
    raise NoSuchStack("There is no samconfig.toml here or above; go to where kiva-relay was checked out.")


def stages() -> list[str]:
    """The environments of samconfig.toml that can be deployed. Raises NoSuchStack."""
    return _deployable(tomllib.loads((project() / "samconfig.toml").read_text(encoding="utf-8")))


def find(stage: str, samconfig: str) -> tuple[str, str]:
    """Stack name and region of an environment of samconfig.toml. Raises NoSuchStack when there is none."""
    config = tomllib.loads(samconfig)
    try:
        return config[stage]["deploy"]["parameters"]["stack_name"], config[stage]["global"]["parameters"]["region"]
    except KeyError:
        raise NoSuchStack(
            f"samconfig.toml has no environment {stage!r}; it has {', '.join(_deployable(config))}"
        ) from None


def _deployable(config: Mapping[str, Any]) -> list[str]:
    return [name for name, section in config.items() if isinstance(section, dict) and "deploy" in section]


def most_of_the_hour(cloudwatch: Any, now: datetime, namespace: str, metric: str, **dimension: str) -> float | None:
    """The largest value of a metric within the hour before `now` (UTC); None where there is none."""
    told = cloudwatch.get_metric_statistics(
        Namespace=namespace,
        MetricName=metric,
        Dimensions=[{"Name": name, "Value": value} for name, value in dimension.items()],
        StartTime=now - timedelta(hours=1),
        EndTime=now,
        Period=3600,
        Statistics=["Maximum"],
    )["Datapoints"]
    return max((float(each["Maximum"]) for each in told), default=None)


def messages_in(sqs: Any, url: str) -> tuple[int, int, int]:
    """How many are visible, in flight (or hidden until their next try), and delayed. Each is approximate."""
    names = [f"ApproximateNumberOfMessages{which}" for which in ("", "NotVisible", "Delayed")]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    visible, hidden, delayed = (int(found.get(name, 0)) for name in names)
    return visible, hidden, delayed
