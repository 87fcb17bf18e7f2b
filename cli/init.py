"""`relay init`: what a deployment needs to know is asked, and written into samconfig.toml between its comments."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import tomlkit

from cli.stacks import LONGEST_NAME
from cli.templates import Chosen, Parameter, given

REGION: Final = "region"
STACK: Final = "stack_name"
NOTHING: Final = "none"
"""What is typed to leave an optional value out, or to take it away."""

_ASKED: Final = ("KivaPartnerId", "CsvColumns", "RepaymentAmountMode", "CoordinatorEmail", "AlarmTopicArn")
_REGION: Final = Parameter(
    name=REGION,
    description="The AWS region that the stack is in.",
    default=None,
    pattern=r"[a-z]{2}(-[a-z]+)+-[0-9]",
    constraint="must be a region such as us-east-1",
)
_STACK: Final = Parameter(
    name=STACK,
    description="What the stack is called; it begins the names of its queues and functions.",
    default=None,
    pattern=rf"[a-z][a-z0-9-]{{0,{LONGEST_NAME - 1}}}",
    constraint=f"must be up to {LONGEST_NAME} small letters, digits and hyphens, with a letter first",
)


def questions(stage: str, samconfig: str, parameters: Mapping[str, Parameter]) -> Iterator[tuple[Parameter, str]]:
    """What is to be asked about an environment: which parameter, and what to propose; empty proposes nothing.

    Proposed is what samconfig.toml says, where that is a value. What was agreed with Kiva is never proposed: a default
    that nobody has read misstates every loan.
    """
    config = tomlkit.parse(samconfig).unwrap()
    there = config.get(stage, {})
    region = there.get("global", {}).get("parameters", {}).get(REGION, "")
    yield _REGION, region or config.get("default", {}).get("global", {}).get("parameters", {}).get(REGION, "")
    if "deploy" not in there:
        yield _STACK, f"kiva-relay-{stage}"
        yield parameters["KivaEnvironment"], ""
    said = given(stage, samconfig) if "deploy" in there else {}
    for name in _ASKED:
        parameter, now = parameters[name], said.get(name, "")
        yield parameter, "" if parameter.refusal(now) else now


def optional(parameter: Parameter) -> bool:
    """Whether it may be left out."""
    return parameter.default == ""


def value_of(parameter: Parameter, ask: Callable[[], str], complain: Callable[[str], None]) -> str:
    """Ask until it is a value that CloudFormation takes; `none` leaves out what may be left out."""
    while True:
        typed = ask().strip()
        value = "" if typed == NOTHING and optional(parameter) else typed
        if not (refused := parameter.refusal(value)):
            return value
        complain(f"{parameter.name} {refused}")


def written(stage: str, samconfig: str, answers: Chosen) -> str:
    """samconfig.toml with these answers, its comments kept; an environment that is not there is added."""
    if "deploy" not in tomlkit.parse(samconfig).unwrap().get(stage, {}):
        samconfig = samconfig.rstrip() + _new(stage, answers)
    document = tomlkit.parse(samconfig)
    section: Any = document[stage]
    section["global"]["parameters"][REGION] = answers[REGION]
    overrides = _list_in(section["deploy"]["parameters"], given(stage, samconfig))
    for name, value in answers.items():
        where = next((at for at, item in enumerate(overrides) if item.startswith(f"{name}=")), None)
        if where is None and value and name not in (REGION, STACK):
            overrides.add_line(f"{name}={value}")
        elif where is not None and value:
            overrides[where] = f"{name}={value}"
        elif where is not None:
            del overrides[where]
    return tomlkit.dumps(document)


def _list_in(section: Any, said: Chosen) -> Any:
    """The list of parameters; where it was one text or none, a list from now on."""
    if not isinstance(section.get("parameter_overrides"), list):
        section["parameter_overrides"] = tomlkit.array()
        for name, value in said.items():
            section["parameter_overrides"].add_line(f"{name}={value}")
    return section["parameter_overrides"]


def _new(stage: str, answers: Chosen) -> str:
    return f"""

[{stage}.global.parameters]
region = "{answers[REGION]}"

[{stage}.deploy.parameters]
stack_name = "{answers[STACK]}"
resolve_s3 = true
capabilities = "CAPABILITY_IAM"
confirm_changeset = true
fail_on_empty_changeset = false
parameter_overrides = [
]
"""
