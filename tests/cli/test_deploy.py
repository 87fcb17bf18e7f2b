"""relay deploy, as it is run: with a program named sam that writes down what it was told, and AWS's clients stubbed.

botocore's stubs hold every question and answer against AWS's own description of the service.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import boto3
import pytest
from botocore.stub import Stubber
from typer.testing import CliRunner

from cli import app as command
from cli import deploy, templates
from fakes import FakeStack
from template.cloudformation import read, refusals

ROOT = Path(__file__).parents[2]
TEMPLATE = templates.read(ROOT / "template.yaml")
PARAMETERS = templates.parameters_of(TEMPLATE)
ROLE = "arn:aws:iam::123456789012:role/others"
STAGE = {"KivaEnvironment": "stage", "KivaPartnerId": "63"}
PRODUCTION = {
    "KivaEnvironment": "production",
    "KivaPartnerId": "63",
    "CsvColumns": "3",
    "RepaymentAmountMode": "instalment",
}

SAM = """#!/bin/sh
for each in "$@"; do printf '%s\\n' "$each"; done >>"$SAM_TOLD"
printf -- '--\\n' >>"$SAM_TOLD"
exit "${SAM_EXITS:-0}"
"""


class Account:
    """What AWS answers, service by service, in order; whatever else is asked is an error of the test."""

    def __init__(self):
        self.clients = {}

    def answers(self, service, operation, answer=None, *, error=None, message=""):
        client, stubber = self.clients.get(service) or (None, None)
        if client is None:
            client = boto3.client(service)
            stubber = Stubber(client)
            stubber.activate()
            self.clients[service] = client, stubber
        if error:
            stubber.add_client_error(operation, error, message)
        else:
            stubber.add_response(operation, answer)

    def client(self, service):
        return self.clients[service][0]

    def is_new(self, *, role="", concurrent=1000):
        no = "Stack with id kiva-relay-try does not exist"
        self.answers("cloudformation", "describe_stacks", error="ValidationError", message=no)
        self.has(role=role, concurrent=concurrent)
        for _ in range(7):
            self.answers("sqs", "get_queue_url", error="QueueDoesNotExist")

    def is_live(self, parameters, *, status="UPDATE_COMPLETE", role="", concurrent=1000):
        self.describes(parameters, status)
        self.has(role=role, concurrent=concurrent)

    def describes(self, parameters, status="UPDATE_COMPLETE"):
        shown = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
        stack = {"StackName": "kiva-relay-try", "StackStatus": status, "CreationTime": 0, "Parameters": shown}
        self.answers("cloudformation", "describe_stacks", {"Stacks": [stack]})

    def has(self, *, role="", concurrent=1000):
        self.answers("apigateway", "get_account", {"cloudwatchRoleArn": role} if role else {})
        self.answers("lambda", "get_account_settings", {"AccountLimit": {"ConcurrentExecutions": concurrent}})


@pytest.fixture
def account():
    return Account()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A checkout without SAM, and a SAM on PATH that writes down what it is told."""
    shutil.copy(ROOT / "template.yaml", tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sam").write_text(SAM)
    (tmp_path / "bin" / "sam").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.defpath}")
    monkeypatch.setenv("SAM_TOLD", str(tmp_path / "told"))
    monkeypatch.setattr(deploy, "CHECKOUT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(account, folder, monkeypatch):
    """Run it with samconfig.toml saying this; gives what CliRunner gives."""

    def run_it(chosen, *options, name="kiva-relay-try", typed=""):
        (folder / "samconfig.toml").write_text(
            '[try.global.parameters]\nregion = "us-east-1"\n[try.deploy.parameters]\n'
            f'stack_name = "{name}"\nparameter_overrides = {json.dumps([f"{it}={chosen[it]}" for it in chosen])}\n'
        )
        monkeypatch.setattr(command, "stack_of", lambda stage: FakeStack(client=account.client, name=name))
        monkeypatch.setenv("COLUMNS", "200")
        return CliRunner().invoke(command.app, ["deploy", "--stage", "try", *options], input=typed)

    return run_it


def told(folder):
    """What SAM was told, run by run: the arguments before the parameters, and the parameters."""
    if not (folder / "told").exists():
        return []
    runs = [lines.splitlines() for lines in (folder / "told").read_text().split("--\n")[:-1]]
    return [_run(arguments) for arguments in runs]


def _run(arguments):
    if "--parameter-overrides" not in arguments:
        return arguments, {}
    where = arguments.index("--parameter-overrides")
    pairs = (it.split("=", 1) for it in arguments[where + 1 :])
    return arguments[:where], {name: value.strip('"') for name, value in pairs}


# --- every parameter, each time ---------------------------------------------------------------------------------------


def test_every_parameter_is_given_as_samconfig_says_or_else_as_the_template_does(run, folder, account):
    account.is_live(STAGE | {"DeletionProtection": "on"})

    ran = run(STAGE | {"CsvColumns": "3"}, "--yes")

    assert ran.exit_code == 0, ran.output
    (build, _), (arguments, chosen) = told(folder)
    assert build[0] == "build"
    assert {"deploy", "--config-env=try", "--no-confirm-changeset"} <= set(arguments)
    assert chosen.keys() == PARAMETERS.keys()
    assert (chosen["CsvColumns"], chosen["RepaymentsPerCall"], chosen["AlarmTopicArn"]) == ("3", "250", "")


def test_what_samcli_reads_from_the_command_line_is_what_was_chosen():
    """Its own parser decides, quotes and empty values among them."""
    chosen = {"A": "", "B": "two words", "C": "1,2", "D": 'a "quoted" word', "E": "https://a.test/b?c=d", "F": "it's"}
    code = (
        "import json, sys; from samcli.cli.types import CfnParameterOverridesType as It;"
        "print(json.dumps(It().convert(tuple(sys.argv[1:]), None, None)))"
    )
    sam = [ROOT / ".venvs" / "sam" / "bin" / "python", "-c", code, *templates.arguments(chosen)]

    read_by_sam = json.loads(subprocess.run(sam, capture_output=True, check=True, text=True).stdout)  # noqa: S603 ours

    assert read_by_sam == chosen


@pytest.mark.parametrize("written", ['["A=1", "B=a b", "C="]', "\"A=1 B='a b' C=\"", '["A=1 B=\'a b\'", "C="]'])
def test_samconfig_may_be_a_list_or_one_text(written):
    samconfig = f"[x.deploy.parameters]\nparameter_overrides = {written}\n"
    given = templates.given("x", samconfig.replace('"B=a b"', "\"B='a b'\""))

    assert given == {"A": "1", "B": "a b", "C": ""}


@pytest.mark.parametrize(
    "change",
    [
        {"KivaPartnerId": "your-partner-id"}, {"KivaPartnerId": ""}, {"CsvColumns": "4"}, {"RepaymentsPerCall": "0"},
        {"RepaymentsPerCall": "301"}, {"AlarmTopicArn": "topic"}, {"LogRetentionDays": "8"},
        {"CoordinatorEmail": "nobody"}, {"KivaTokenUrl": "https://a.test/?q"}, {"ApiAllowedAccounts": "1"},
    ],
)  # fmt: skip
def test_a_value_is_refused_where_cloudformation_would_refuse_it(change):
    assert len(list(templates.refusals(PARAMETERS, STAGE | change))) == len(refusals(read(), STAGE | change)) == 1


@pytest.mark.parametrize("almost", ["many", "1.5", "-1", "", "1e2", "²"])
def test_a_number_is_written_in_digits(almost):
    assert len(list(templates.refusals(PARAMETERS, STAGE | {"RepaymentsPerCall": almost}))) == 1


def test_no_default_of_the_template_is_refused():
    assert list(templates.refusals(PARAMETERS, deploy.wanted(PARAMETERS, STAGE))) == []


# --- what it says first -----------------------------------------------------------------------------------------------


def test_what_differs_from_the_live_stack_is_shown_before_anything_is_done(run, folder, account):
    now = deploy.wanted(PARAMETERS, STAGE) | {"RepaymentsPerCall": "200", "Gone": "x"}
    del now["StrictDrafts"]
    account.is_live(now)

    ran = run(STAGE | {"CoordinatorEmail": "a@b.test"}, typed="n\n")

    assert ran.exit_code == 130
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert ["RepaymentsPerCall", "200", "250"] in lines
    assert ["CoordinatorEmail", "(empty)", "a@b.test"] in lines
    assert ["StrictDrafts", "(there", "is", "none)", "no"] in lines
    assert ["Gone", "x", "(there", "is", "none)"] in lines
    assert [line for line in lines if line[:1] == ["CsvColumns"]] == []
    assert told(folder) == []


def test_where_no_parameter_changes_that_is_said_and_the_code_is_deployed(run, folder, account):
    account.is_live(deploy.wanted(PARAMETERS, STAGE))

    ran = run(STAGE, typed="y\n")

    assert ran.exit_code == 0
    assert "no parameter changes" in ran.stdout
    assert len(told(folder)) == 2


def test_somebody_who_answers_is_also_asked_by_sam_as_samconfig_says(run, folder, account):
    account.is_live(STAGE)

    run(STAGE, typed="y\n")

    assert "--no-confirm-changeset" not in told(folder)[1][0]


def test_the_next_step_is_said(run, account):
    account.is_live(STAGE)

    ran = run(STAGE, "--yes")

    assert "relay credentials --stage try" in ran.stderr
    assert "relay check --stage try" in ran.stderr


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"KivaEnvironment": "stage"}, "KivaPartnerId: must be given"),
        (STAGE | {"KivaPartnerId": "your-partner-id"}, "KivaPartnerId=your-partner-id: must be 1 to 10 digits"),
        (STAGE | {"CsvColums": "3"}, "CsvColums: is no parameter"),
        ({it: PRODUCTION[it] for it in PRODUCTION if it != "CsvColumns"}, "CsvColumns: production must say it"),
        ({it: PRODUCTION[it] for it in PRODUCTION if it != "RepaymentAmountMode"}, "RepaymentAmountMode: production"),
        (PRODUCTION | {"KivaProductionConfirmed": "yes"}, "KivaProductionConfirmed=yes: is asked for"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_aws_is_asked(run, folder, chosen, said):
    ran = run(chosen, "--yes")

    assert (ran.exit_code, told(folder)) == (1, [])
    assert said in ran.stderr


def test_every_reason_is_named_at_once(run):
    ran = run({"KivaEnvironment": "stag", "CsvColumns": "4"}, "--yes", name="a" * 49)

    *reasons, what_to_do = ran.stderr.splitlines()
    assert (len(reasons), "relay init" in what_to_do) == (4, True)


def test_the_longest_name_is_deployed(run, account):
    account.is_live(STAGE)
    assert run(STAGE, "--yes", name="a" * 48).exit_code == 0


@pytest.mark.parametrize("name", ["KivaEnvironment", "KivaPartnerId"])
def test_a_live_stack_keeps_its_environment_and_its_partner(run, folder, account, name):
    account.is_live(STAGE | {name: "other"})

    ran = run(STAGE, "--yes")

    assert (ran.exit_code, told(folder)) == (1, [])
    assert f"was deployed with other, and samconfig.toml says {STAGE[name]}" in ran.stderr


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("ROLLBACK_COMPLETE", "delete-stack"),
        ("DELETE_FAILED", "delete-stack"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback"),
        ("UPDATE_IN_PROGRESS", "wait"),
    ],
)
def test_a_stack_that_cannot_be_updated_is_refused_with_the_way_out(run, folder, account, status, said):
    account.describes(STAGE, status)

    ran = run(STAGE, "--yes")

    assert (ran.exit_code, told(folder)) == (1, [])
    assert said in ran.stderr


def test_the_stack_on_this_machine_is_not_deployed_by_it(run, folder, monkeypatch):
    ran = CliRunner().invoke(command.app, ["deploy", "--stage", "local"])

    assert ran.exit_code == 2
    assert "make up" in ran.stderr


def test_a_sam_that_fails_ends_it(run, folder, account, monkeypatch):
    account.is_live(STAGE)
    monkeypatch.setenv("SAM_EXITS", "7")

    ran = run(STAGE, "--yes")

    assert ran.exit_code == 1
    assert "sam build ended with exit code 7" in ran.stderr
    assert len(told(folder)) == 1


def test_without_sam_it_is_said_how_to_have_it(run, folder, account):
    account.is_live(STAGE)
    (folder / "bin" / "sam").unlink()

    ran = run(STAGE, "--yes")

    assert ran.exit_code == 1
    assert "make setup" in ran.stderr


# --- a new stack ------------------------------------------------------------------------------------------------------


def test_a_new_stack_is_deployed_unprotected_and_then_protected(run, folder, account):
    account.is_new()
    account.describes(STAGE, "CREATE_COMPLETE")

    ran = run(STAGE, "--yes")

    assert ran.exit_code == 0, ran.output
    (_, (_, first), (_, second)) = told(folder)
    assert (first["DeletionProtection"], second["DeletionProtection"]) == ("off", "on")
    assert first | {"DeletionProtection": "on"} == second


@pytest.mark.parametrize("chosen", [{"DeletionProtection": "off"}, {"KivaEnvironment": "sandbox"}])
def test_one_that_is_not_to_be_protected_is_deployed_once(run, folder, account, chosen):
    account.is_new()

    run(STAGE | chosen, "--yes")

    assert [chosen["DeletionProtection"] for _, chosen in told(folder)[1:]] == ["off"]


def test_where_the_change_set_was_declined_nothing_more_is_deployed(run, folder, account):
    account.is_new()
    account.describes({}, "REVIEW_IN_PROGRESS")

    ran = run(STAGE, typed="y\n")

    assert ran.exit_code == 1
    assert "Nothing was deployed." in ran.stderr
    assert len(told(folder)) == 2


# --- production -------------------------------------------------------------------------------------------------------


def test_production_is_asked_about_in_words_each_time_also_with_yes(run, folder, account, somebody):
    account.is_live(PRODUCTION | {"KivaProductionConfirmed": "yes"})

    ran = run(PRODUCTION, "--yes", typed="yes\n")

    assert (ran.exit_code, told(folder)) == (130, [])
    assert "may use its production?" in ran.stderr


def test_production_is_deployed_once_the_word_is_typed(run, folder, account, somebody):
    account.is_live(PRODUCTION)

    ran = run(PRODUCTION, typed="production\n")

    assert ran.exit_code == 0
    assert told(folder)[1][1]["KivaProductionConfirmed"] == "yes"


def test_nobody_at_a_terminal_means_no_production(run, folder, account):
    account.is_live(PRODUCTION)

    ran = run(PRODUCTION, "--yes", typed="production\n")

    assert (ran.exit_code, told(folder)) == (2, [])
    assert "needs a person" in ran.stderr


def test_a_stage_is_never_confirmed_as_production(run, folder, account):
    account.is_live(STAGE)

    run(STAGE, "--yes")

    assert told(folder)[1][1]["KivaProductionConfirmed"] == "no"


# --- the account ------------------------------------------------------------------------------------------------------


def test_what_the_command_looks_for_by_name_is_in_the_template():
    assert {deploy.CONFIRMED, deploy.PROTECTION, deploy.LOG_ROLE, *deploy.AGREED, *deploy.SCOPE} <= PARAMETERS.keys()
    assert {"ApiGatewayLogsRole", "DigestTopic"} <= TEMPLATE["Resources"].keys()
    assert set(PARAMETERS[deploy.LOG_ROLE].allowed) == {"create", "keep"}


def test_an_api_gateway_log_role_of_others_is_kept(run, folder, account):
    account.is_live(STAGE, role=ROLE)
    account.answers("cloudformation", "describe_stack_resource", error="ValidationError")

    ran = run(STAGE, "--yes")

    assert told(folder)[1][1]["ApiGatewayLogRole"] == "keep"
    assert ROLE in ran.stdout


def test_that_of_this_stack_is_not_taken_for_anothers(run, folder, account):
    account.is_live(STAGE, role=ROLE)
    detail = {
        "LogicalResourceId": "ApiGatewayLogsRole",
        "ResourceType": "AWS::IAM::Role",
        "PhysicalResourceId": "others",
        "LastUpdatedTimestamp": 0,
        "ResourceStatus": "CREATE_COMPLETE",
    }
    account.answers("cloudformation", "describe_stack_resource", {"StackResourceDetail": detail})

    run(STAGE, "--yes")

    assert told(folder)[1][1]["ApiGatewayLogRole"] == "create"


@pytest.mark.parametrize("chosen", [{}, {"ApiGatewayLogRole": "create"}])
def test_where_there_is_none_or_samconfig_says_which_that_holds(run, folder, account, chosen):
    account.is_live(STAGE, role=ROLE if chosen else "")

    run(STAGE | chosen, "--yes")

    assert told(folder)[1][1]["ApiGatewayLogRole"] == "create"


def test_a_small_limit_of_functions_at_once_is_told(run, account):
    account.is_live(STAGE, concurrent=10)

    ran = run(STAGE, "--yes")

    assert "10 functions run at once; this stack's queues take up to 6" in ran.stdout


def test_who_may_not_look_is_told_so_and_goes_on(run, folder, account):
    account.describes(STAGE)
    account.answers("apigateway", "get_account", error="AccessDeniedException")
    account.answers("lambda", "get_account_settings", error="AccessDeniedException")

    ran = run(STAGE, "--yes")

    assert ran.exit_code == 0
    assert ran.stdout.count("AccessDeniedException") == 2
