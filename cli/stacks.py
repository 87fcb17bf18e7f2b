"""Where the stack of a stage is: its name and region from samconfig.toml, and what it says about itself."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3

from local.stack import attach

SAMCONFIG = Path(__file__).parents[1] / "samconfig.toml"

Clients = Callable[[str], Any]
"""A boto3 client by the name of its service."""


class NoSuchStack(Exception):
    """The stack cannot be used; the message says why and what to do."""


def stack_of(stage: str) -> tuple[str, Clients]:
    """Name of a stage's stack, and a way to its services: for `local` to those that `make up` keeps running."""
    name, region = find(stage, SAMCONFIG.read_text())
    if stage != "local":
        return name, boto3.Session(region_name=region).client
    if stack := attach():
        return name, stack.client
    raise NoSuchStack("No stack is running on this machine. Start one: make up")


def find(stage: str, samconfig: str) -> tuple[str, str]:
    """Stack name and region of an environment of samconfig.toml. Raises NoSuchStack when there is none."""
    config = tomllib.loads(samconfig)
    try:
        return config[stage]["deploy"]["parameters"]["stack_name"], config[stage]["global"]["parameters"]["region"]
    except KeyError:
        known = ", ".join(name for name, section in config.items() if isinstance(section, dict) and "deploy" in section)
        raise NoSuchStack(f"samconfig.toml has no environment {stage!r}; it has {known}") from None


def outputs_of(stack: str, client: Clients, *names: str) -> list[str]:
    """What the stack's outputs of these names say. Raises NoSuchStack when one is missing."""
    outputs = client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0].get("Outputs", [])
    values: dict[str, str] = {each["OutputKey"]: each["OutputValue"] for each in outputs}
    if missing := next((name for name in names if name not in values), None):
        raise NoSuchStack(f"The stack {stack} has no output {missing}; deploy this version of it first.")
    return [values[name] for name in names]
