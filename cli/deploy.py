"""`relay deploy`: what would change is said and asked about first; then `sam build` and `sam deploy` do it.

Every parameter is given to SAM each time, as samconfig.toml says it or else as the template's default. Of one that is
not given, SAM CLI lets CloudFormation keep the previous value (`UsePreviousValue` of CreateChangeSet's Parameter): a
new default would never reach a live stack, and a "yes" to production would be remembered.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from botocore.exceptions import ClientError

from cli.stacks import CHECKOUT, LONGEST_NAME, StackOfStage
from cli.templates import Chosen, Parameter, arguments, refusals

AGREED: Final = ("RepaymentAmountMode", "CsvColumns")
"""What production must say itself, because a wrong default misstates every loan."""
SCOPE: Final = ("KivaEnvironment", "KivaPartnerId")
"""What a live stack keeps: its ledger and its credentials are of this environment and this partner."""
CONFIRMED: Final = "KivaProductionConfirmed"
PROTECTION: Final = "DeletionProtection"
LOG_ROLE: Final = "ApiGatewayLogRole"

# CloudFormation User Guide, "Understand CloudFormation stack creation events": what can be updated, and what cannot.
_NEVER_WAS: Final = "REVIEW_IN_PROGRESS"
_TO_BE_DELETED: Final = {"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"}


class NotDeployed(Exception):
    """Nothing was deployed, or not all; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Live:
    """A stack that is there: its status and the parameters it was deployed with."""

    status: str
    parameters: Chosen


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be deployed, what is there now, and what a person should know before."""

    chosen: Chosen
    live: Live | None
    notes: list[str] = field(default_factory=list)

    @property
    def production(self) -> bool:
        """Whether it is about real loans."""
        return self.chosen["KivaEnvironment"] == "production"

    @property
    def protected_later(self) -> bool:
        """Whether a second deployment protects the ledger: a first one that fails must be able to delete it."""
        return self.live is None and self.chosen.get(PROTECTION) == "on"

    def differences(self) -> Iterator[tuple[str, str, str]]:
        """Each parameter that differs, as it is now and as it will be; of a new stack all of them."""
        now = self.live.parameters if self.live else {}
        for name in sorted(now.keys() | self.chosen.keys()):
            if (before := now.get(name)) != (after := self.chosen.get(name)):
                yield name, _shown(before), _shown(after)


def _shown(value: str | None) -> str:
    return "(there is none)" if value is None else value or "(empty)"


def wanted(parameters: Mapping[str, Parameter], given: Chosen) -> dict[str, str]:
    """The value of every parameter: the template's default, unless samconfig.toml says another.

    Outside the sandbox the ledger is protected unless samconfig.toml says otherwise: the template's "off" is for the
    first deployment alone.
    """
    defaults = {name: it.default for name, it in parameters.items() if it.default is not None}
    if given.get("KivaEnvironment") != "sandbox" and PROTECTION in parameters:
        defaults[PROTECTION] = "on"
    return defaults | dict(given)


def objections(name: str, parameters: Mapping[str, Parameter], given: Chosen) -> Iterator[str]:
    """Why this is not to be deployed, whatever is there now."""
    if len(name) > LONGEST_NAME:
        yield f"The stack's name {name} has {len(name)} characters; {LONGEST_NAME} is the most."
    yield from refusals(parameters, given)
    if given.get("KivaEnvironment") == "production":
        for agreed in AGREED:
            if agreed not in given:
                yield f"{agreed}: production must say it, as it was agreed with Kiva's coordinator"
        if given.get(CONFIRMED) == "yes":
            yield f"{CONFIRMED}=yes: is asked for at each deployment, and not to be kept in samconfig.toml"


def refuse_what_cannot_be_meant(name: str, parameters: Mapping[str, Parameter], given: Chosen) -> None:
    """Raises NotDeployed with every objection, and where to mend it."""
    if found := list(objections(name, parameters, given)):
        mend = "Put it right in samconfig.toml; relay init asks for what every stack needs."
        raise NotDeployed("\n".join([*found, mend]))


def live(stack: StackOfStage) -> Live | None:
    """The stack as it is; None where there is none.

    Raises:
        NotDeployed: it is in a state that no deployment can change.
    """
    try:
        (found,) = stack.client("cloudformation").describe_stacks(StackName=stack.name)["Stacks"]
    except ClientError as error:
        # CloudFormation has no code of its own for it, as SAM CLI notes too.
        if "does not exist" in str(error):
            return None
        raise
    status = found["StackStatus"]
    if status == _NEVER_WAS:
        return None
    if status in _TO_BE_DELETED:
        raise NotDeployed(
            f"The stack {stack.name} is {status}: it was never whole, or is half deleted. Delete it first, and look why"
            f" it failed: aws cloudformation describe-stack-events --stack-name {stack.name};"
            f" aws cloudformation delete-stack --stack-name {stack.name}"
        )
    if status == "UPDATE_ROLLBACK_FAILED":
        raise NotDeployed(
            f"The stack {stack.name} is {status}. Mend what its events name, and then:"
            f" aws cloudformation continue-update-rollback --stack-name {stack.name}"
        )
    if status.endswith("_IN_PROGRESS"):
        raise NotDeployed(f"The stack {stack.name} is {status}: wait until it has ended.")
    parameters = {it["ParameterKey"]: it["ParameterValue"] for it in found.get("Parameters", [])}
    return Live(status, parameters)


def plan(stack: StackOfStage, parameters: Mapping[str, Parameter], given: Chosen) -> Plan:
    """Look at what is there, and say what deploying means.

    Raises:
        NotDeployed: it must not be; every reason is named.
    """
    refuse_what_cannot_be_meant(stack.name, parameters, given)
    now = live(stack)
    chosen = wanted(parameters, given)
    for name in SCOPE:
        # A stack that was just adopted may have neither.
        before = now.parameters.get(name, chosen[name]) if now else chosen[name]
        if before != chosen[name]:
            raise NotDeployed(
                f"{name}: the stack {stack.name} was deployed with {before}, and samconfig.toml says {chosen[name]}."
                " That would be another ledger and other credentials: deploy it as a stack of another name."
            )
    if chosen["KivaEnvironment"] == "production":
        chosen[CONFIRMED] = "yes"  # the caller asks, each time
    notes = list(_log_role(stack, parameters, given, chosen)) + list(_concurrency(stack, chosen))
    return Plan(chosen, now, notes)


def _log_role(
    stack: StackOfStage, parameters: Mapping[str, Parameter], given: Chosen, chosen: dict[str, str]
) -> Iterator[str]:
    """One role of the account and region writes the logs of every API there: another's is left alone."""
    if LOG_ROLE not in parameters or LOG_ROLE in given:
        return
    try:
        arn = stack.client("apigateway").get_account().get("cloudwatchRoleArn", "")
    except ClientError as error:
        yield f"You may not look who writes API Gateway's logs here ({_code(error)}); {LOG_ROLE}={chosen[LOG_ROLE]}."
        return
    if arn and arn.rpartition("/")[2] != _own_log_role(stack):
        chosen[LOG_ROLE] = "keep"
        yield f"API Gateway's logs are written here by {arn}, which is not of this stack: it stays ({LOG_ROLE}=keep)."


def _own_log_role(stack: StackOfStage) -> str:
    try:
        found = stack.client("cloudformation").describe_stack_resource(
            StackName=stack.name, LogicalResourceId="ApiGatewayLogsRole"
        )
    except ClientError:  # no such stack, or none in it
        return ""
    name: str = found["StackResourceDetail"].get("PhysicalResourceId", "")
    return name


def _concurrency(stack: StackOfStage, chosen: Chosen) -> Iterator[str]:
    """New accounts start with as few as 10 (Lambda Developer Guide, "Understanding Lambda function scaling")."""
    try:
        limit = stack.client("lambda").get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    except ClientError as error:
        yield f"How many functions may run at once in this account cannot be looked at ({_code(error)})."
        return
    queues = sum(int(value) for name, value in chosen.items() if name.endswith("MaximumConcurrency"))
    if limit < 4 * queues:
        yield (
            f"In this account {limit} functions run at once; this stack's queues take up to {queues} of them, the API,"
            " housekeeping and other stacks share the rest. Ask for more: Service Quotas > AWS Lambda > Concurrent"
            " executions."
        )


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


# --- SAM CLI ----------------------------------------------------------------------------------------------------------


def sam() -> str:
    """Where SAM CLI is: that of this checkout, else the one on PATH. Raises NotDeployed when there is none."""
    found = shutil.which("sam", path=_path(CHECKOUT / ".venvs" / "sam" / "bin"))
    if not found:
        raise NotDeployed("SAM CLI is not here. In the checkout: make setup; or install it, as AWS describes.")
    return found


def run(folder: Path, *command: str) -> None:
    """Run SAM in a folder, in this terminal, so that it may ask.

    Raises:
        NotDeployed: it ended with an error, which it has printed.
    """
    # `sam build` wants a real python3.13 with its pip.
    environment = os.environ | {"PATH": _path(CHECKOUT / ".venvs" / "uv" / "bin"), "SAM_CLI_TELEMETRY": "0"}
    ended = subprocess.run([sam(), *command], cwd=folder, env=environment, check=False).returncode  # noqa: S603 fixed
    if ended:
        raise NotDeployed(f"sam {command[0]} ended with exit code {ended}; what it says is above.")


def _path(first: Path) -> str:
    return os.pathsep.join([str(first), os.environ.get("PATH", os.defpath)])


def deploy_command(stage: str, chosen: Chosen, *options: str) -> list[str]:
    """`sam deploy` with exactly these parameters; whatever list samconfig.toml has does not count then."""
    return ["deploy", f"--config-env={stage}", *options, "--parameter-overrides", *arguments(chosen)]


def execute(stage: str, stack: StackOfStage, folder: Path, plan: Plan, *, ask: bool) -> None:
    """Build and deploy; a new stack once without protection, and then with it.

    Args:
        stage: The environment of samconfig.toml.
        stack: Its stack.
        folder: Where samconfig.toml and template.yaml are.
        plan: What to deploy.
        ask: Whether SAM may show its change set and ask, as samconfig.toml says.

    Raises:
        NotDeployed: it was not, or not all.
    """
    run(folder, "build", "--cached", "--parallel")
    quiet = ("--no-confirm-changeset",)
    first = {**plan.chosen, PROTECTION: "off"} if plan.protected_later else plan.chosen
    run(folder, *deploy_command(stage, first, *(() if ask else quiet), "--no-fail-on-empty-changeset"))
    if plan.protected_later:
        if live(stack) is None:  # SAM ends well too when its question was answered with no
            raise NotDeployed("Nothing was deployed.")
        run(folder, *deploy_command(stage, plan.chosen, *quiet, "--no-fail-on-empty-changeset"))
