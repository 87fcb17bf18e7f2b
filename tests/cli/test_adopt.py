"""relay adopt: what a deleted stack has left is found, and becomes a stack again by a template of nothing else.

What AWS makes of a change set of type IMPORT nobody here can see; tests/e2e/test_life.py shows what MiniStack does.
"""

import json
from copy import deepcopy
from pathlib import Path

import boto3
import pytest
from botocore.stub import ANY, Stubber
from cfnlint.api import ManualArgs, lint
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from typer.testing import CliRunner

from cli import adopt, templates
from cli import app as command
from cli.deploy import NotDeployed, wanted
from fakes import FakeStack

ROOT = Path(__file__).parents[2]
TEMPLATE = templates.read(ROOT / "template.yaml")
PARAMETERS = templates.parameters_of(TEMPLATE)
NAME = "kiva-relay-try"
STAGE = {"KivaEnvironment": "stage", "KivaPartnerId": "63"}
TAGS = [{"Key": adopt.TAG, "Value": NAME}]
EVERY = adopt.retained(TEMPLATE)
CHANGE_SET = "arn:aws:cloudformation:us-east-1:123456789012:changeSet/adopt-1/1"


# --- the template -----------------------------------------------------------------------------------------------------


def test_whatever_outlives_the_stack_is_adopted_but_what_the_account_keeps_for_everybody():
    kept = {name for name, it in TEMPLATE["Resources"].items() if "Retain" in it.get("DeletionPolicy", "")}
    assert kept - EVERY.keys() == {"ApiGatewayAccount", "ApiGatewayLogsRole"}
    assert {
        "LedgerTable",
        "PayloadBucket",
        "StackKey",
        "CredentialsSecret",
        "EventBus",
        "RepaymentsQueue",
    } <= EVERY.keys()


def test_each_type_is_identified_as_its_own_schema_says_and_can_be_read_back():
    """The schema is AWS's; CloudFormation imports a type through its read handler."""
    for kind, identifier in adopt.IDENTIFIERS.items():
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
        assert schema["primaryIdentifier"] == [f"/properties/{identifier}"]
        assert "read" in schema["handlers"]


def test_what_has_no_name_in_the_template_carries_the_tag_by_which_it_is_found():
    for name, kind in EVERY.items():
        if kind in adopt._TAGGED:
            assert {"Key": adopt.TAG, "Value": {"Ref": "AWS::StackName"}} in TEMPLATE["Resources"][name]["Properties"][
                "Tags"
            ]


def test_the_reduced_template_is_whole_by_cfn_lint_and_small_enough_to_be_sent():
    text = json.dumps(adopt.reduced(TEMPLATE, list(EVERY)))

    found = lint(text, config=ManualArgs(include_checks=["I"]))
    assert [str(it) for it in found] == []
    assert len(text) < 51_200  # CreateChangeSet: TemplateBody


def test_it_has_these_resources_and_retains_them_whatever_happens():
    made = adopt.reduced(TEMPLATE, list(EVERY))

    assert made["Resources"].keys() == EVERY.keys()
    assert {it["DeletionPolicy"] for it in made["Resources"].values()} == {"Retain"}
    assert made.keys() == {"AWSTemplateFormatVersion", "Parameters", "Conditions", "Resources"}
    assert made["Resources"]["LedgerTable"]["Properties"] == TEMPLATE["Resources"]["LedgerTable"]["Properties"]


def test_it_has_the_parameters_and_conditions_that_they_need_and_no_others():
    made = adopt.reduced(TEMPLATE, ["LedgerTable", "StackKey"])

    assert made["Parameters"].keys() == {"DeletionProtection"}
    assert made["Conditions"].keys() == {"IsProtected"}


@pytest.mark.parametrize("missing", ["StackKey", "RepaymentsDeadLetterQueue", "CredentialsSecret"])
def test_what_the_others_refer_to_must_be_there(missing):
    with pytest.raises(NotDeployed, match=f"{missing}: is not there"):
        adopt.reduced(TEMPLATE, [name for name in EVERY if name != missing])


def test_a_reference_is_seen_in_every_form():
    forms = [{"Ref": "B"}, {"Fn::GetAtt": ["B", "Arn"]}, {"Fn::Sub": "x${B}"}, {"Fn::Sub": ["${B.Arn}", {}]}]
    for form in forms:
        template = {"Resources": {"A": {"Type": "T", "Properties": {"x": [{"y": form}]}}, "B": {"Type": "T"}}}
        with pytest.raises(NotDeployed, match="B: is not there"):
            adopt.reduced(template, ["A"])
    resources = {"A": {"Type": "T", "Properties": {"x": {"Fn::Sub": "${!B} ${AWS::StackName}"}}}, "B": {}}
    assert adopt.reduced({"Resources": resources, "Parameters": {}, "Mappings": {}}, ["A"])


# --- what is found ----------------------------------------------------------------------------------------------------


@pytest.fixture
def left(aws):
    """What a deleted stack has left; gives what identifies each."""
    sqs, events = boto3.client("sqs"), boto3.client("events")
    there = {}
    for name, kind in EVERY.items():
        properties = TEMPLATE["Resources"][name].get("Properties", {})
        if kind == "AWS::SQS::Queue":
            there[name] = sqs.create_queue(QueueName=adopt._literal(properties["QueueName"], NAME))["QueueUrl"]
    events.create_event_bus(Name=NAME)
    there |= {"EventBus": NAME, "StackKey": key(), "LedgerTable": table("first"), "PayloadBucket": bucket("payloads")}
    there["CredentialsSecret"] = there["OnlyFunctionsReadCredentials"] = secret("credentials")
    return there


def key():
    return boto3.client("kms").create_key(Tags=[{"TagKey": adopt.TAG, "TagValue": NAME}])["KeyMetadata"]["KeyId"]


def table(name, tags=TAGS):
    attribute = {"AttributeName": "pk", "AttributeType": "S"}
    boto3.client("dynamodb").create_table(
        TableName=name,
        Tags=tags,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[attribute],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
    )
    return name


def bucket(name):
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": TAGS})
    return name


def secret(name):
    client = boto3.client("secretsmanager")
    arn = client.create_secret(Name=name, SecretString="{}", Tags=TAGS)["ARN"]
    client.put_resource_policy(SecretId=arn, ResourcePolicy='{"Version": "2012-10-17", "Statement": []}')
    return arn


def found(**chosen):
    return {it.logical_id: it.physical_id for it in adopt.leftovers(FakeStack(name=NAME), TEMPLATE, chosen)}


def test_all_that_is_left_is_found_by_its_name_or_its_tag(left):
    table("another's", [{"Key": adopt.TAG, "Value": "kiva-relay-other"}])

    assert found() == left


def test_where_several_could_be_meant_they_are_named_and_nothing_is_done(left):
    table("second")
    bucket("second-bucket")

    with pytest.raises(NotDeployed) as refused:
        found()

    assert "LedgerTable could be first, second: say which with --resource LedgerTable=" in str(refused.value)
    assert "PayloadBucket could be" in str(refused.value)


def test_a_person_says_which_is_meant_also_one_without_a_tag(left):
    table("restored", [])
    bucket("second-bucket")

    assert found(LedgerTable="restored", PayloadBucket="second-bucket") == left | {
        "LedgerTable": "restored",
        "PayloadBucket": "second-bucket",
    }


def test_a_choice_that_is_none_of_them_is_refused(left):
    with pytest.raises(NotDeployed, match="Table: not of these"):
        found(Table="x")


def test_without_the_ledger_nothing_is_adopted(left):
    boto3.client("dynamodb").delete_table(TableName=left["LedgerTable"])

    with pytest.raises(NotDeployed, match="The ledger is not here"):
        found()


def test_where_nothing_is_left_that_is_said(aws):
    with pytest.raises(NotDeployed, match="Nothing is here"):
        found()


def test_a_key_or_a_secret_that_is_about_to_go_is_called_back_first(left):
    boto3.client("kms").schedule_key_deletion(KeyId=left["StackKey"])
    boto3.client("secretsmanager").delete_secret(SecretId=left["CredentialsSecret"])

    with pytest.raises(NotDeployed) as refused:
        found(StackKey=left["StackKey"], CredentialsSecret=left["CredentialsSecret"])

    assert "aws kms cancel-key-deletion" in str(refused.value)
    assert "aws secretsmanager restore-secret" in str(refused.value)


def test_a_queue_in_the_way_of_a_new_stack_is_seen(left):
    assert len(adopt.left_behind(FakeStack(name=NAME), TEMPLATE)) == 7
    assert adopt.left_behind(FakeStack(name="kiva-relay-other"), TEMPLATE) == []


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def cloudformation(left):
    """CloudFormation as it answers when all goes well, up to the question."""
    client = boto3.client("cloudformation")
    stubber = Stubber(client)
    no = f"Stack with id {NAME} does not exist"
    stubber.add_client_error("describe_stacks", "ValidationError", no)
    stubber.activate()
    return client, stubber


def takes(stubber, left):
    names = sorted(left, key=lambda it: (it == "OnlyFunctionsReadCredentials", list(EVERY).index(it)))
    body = adopt.reduced(TEMPLATE, names)
    said = wanted(PARAMETERS, STAGE)
    expected = {
        "StackName": NAME,
        "ChangeSetName": ANY,
        "ChangeSetType": "IMPORT",
        "TemplateBody": json.dumps(body),
        "Parameters": [{"ParameterKey": name, "ParameterValue": said[name]} for name in body["Parameters"]],
        "ResourcesToImport": [
            {
                "ResourceType": EVERY[name],
                "LogicalResourceId": name,
                "ResourceIdentifier": {adopt.IDENTIFIERS[EVERY[name]]: left[name]},
            }
            for name in names
        ],
    }
    stubber.add_response("create_change_set", {"Id": CHANGE_SET, "StackId": NAME}, expected)
    described = {"Status": "CREATE_COMPLETE", "ExecutionStatus": "AVAILABLE", "Changes": []}
    changes = [
        {
            "Type": "Resource",
            "ResourceChange": {"Action": "Import", "LogicalResourceId": name, "ResourceType": EVERY[name]}
            | {"PhysicalResourceId": left[name]},
        }
        for name in left
    ]
    for changes_shown in ([], [], changes):
        stubber.add_response("describe_change_set", described | {"Changes": changes_shown})


@pytest.fixture
def run(cloudformation, tmp_path, monkeypatch):
    def client(service):
        return cloudformation[0] if service == "cloudformation" else boto3.client(service)

    def run_it(*options, chosen=STAGE, typed=""):
        (tmp_path / "template.yaml").write_text((ROOT / "template.yaml").read_text())
        (tmp_path / "samconfig.toml").write_text(
            f"[try.deploy.parameters]\nparameter_overrides = {json.dumps([f'{it}={chosen[it]}' for it in chosen])}\n"
        )
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(command, "stack_of", lambda _: FakeStack(client=client, name=NAME))
        monkeypatch.setattr(adopt, "WAIT_SECONDS", 0)
        return CliRunner().invoke(command.app, ["adopt", "--stage", "try", *options], input=typed)

    return run_it


def test_it_imports_all_of_it_after_a_yes_and_says_what_comes_next(run, left, cloudformation):
    takes(cloudformation[1], left)
    cloudformation[1].add_response("execute_change_set", {}, {"ChangeSetName": CHANGE_SET})
    stack = {"StackName": NAME, "StackStatus": "IMPORT_COMPLETE", "CreationTime": 0}
    cloudformation[1].add_response("describe_stacks", {"Stacks": [stack]})

    ran = run(typed="y\n")

    assert ran.exit_code == 0, ran.output
    assert left["LedgerTable"] in ran.stdout
    assert "next: relay deploy --stage try" in ran.stderr
    cloudformation[1].assert_no_pending_responses()


def test_a_no_imports_nothing(run, left, cloudformation):
    takes(cloudformation[1], left)

    ran = run(typed="n\n")

    assert ran.exit_code == 130
    cloudformation[1].assert_no_pending_responses()


def test_what_cloudformation_does_not_take_is_told_with_its_reason(run, left, cloudformation):
    cloudformation[1].add_response("create_change_set", {"Id": CHANGE_SET, "StackId": NAME})
    failed = {"Status": "FAILED", "ExecutionStatus": "UNAVAILABLE", "StatusReason": "it exists in stack x"}
    for _ in range(2):
        cloudformation[1].add_response("describe_change_set", failed)

    ran = run("--yes")

    assert ran.exit_code == 1
    assert "it exists in stack x" in ran.stderr


def test_what_is_not_here_is_said(run, left, cloudformation):
    boto3.client("events").delete_event_bus(Name=NAME)
    takes(cloudformation[1], {name: it for name, it in left.items() if name != "EventBus"})

    ran = run(typed="n\n")

    assert "the deployment makes new ones: EventBus" in ran.stderr


def test_an_import_that_fails_says_where_to_look(run, left, cloudformation):
    takes(cloudformation[1], left)
    cloudformation[1].add_response("execute_change_set", {})
    stack = {"StackName": NAME, "StackStatus": "IMPORT_ROLLBACK_COMPLETE", "CreationTime": 0}
    cloudformation[1].add_response("describe_stacks", {"Stacks": [stack]})

    ran = run("--yes")

    assert ran.exit_code == 1
    assert "describe-stack-events" in ran.stderr


def test_a_stack_that_is_there_adopts_nothing(run, left):
    client = boto3.client("cloudformation")
    stack = {"StackName": NAME, "StackStatus": "CREATE_COMPLETE", "CreationTime": 0}
    with Stubber(client) as stubber:
        stubber.add_response("describe_stacks", {"Stacks": [stack]})
        found = adopt.leftovers(FakeStack(name=NAME), TEMPLATE, {})
        with pytest.raises(NotDeployed, match="is there"):
            adopt.prepare(FakeStack(client=lambda _: client, name=NAME), TEMPLATE, found, wanted(PARAMETERS, STAGE))


def test_production_needs_somebody_at_a_terminal(run, left):
    production = STAGE | {"KivaEnvironment": "production", "CsvColumns": "2", "RepaymentAmountMode": "instalment"}

    assert run("--yes", chosen=production, typed="production\n").exit_code == 2


def test_the_template_is_not_changed_by_it():
    before = deepcopy(TEMPLATE)
    adopt.reduced(TEMPLATE, list(EVERY))
    assert before == TEMPLATE


def test_moto_proves_nothing_about_imports(aws):
    """It takes an import for a creation, also of what is not there; so CloudFormation is stubbed here."""
    client = boto3.client("cloudformation")
    template = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue", "DeletionPolicy": "Retain"}}}
    nothing = {"QueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/nothing"}
    made = client.create_change_set(
        StackName=NAME,
        ChangeSetName="adopt",
        ChangeSetType="IMPORT",
        TemplateBody=json.dumps(template),
        ResourcesToImport=[
            {"ResourceType": "AWS::SQS::Queue", "LogicalResourceId": "Queue", "ResourceIdentifier": nothing}
        ],
    )
    (change,) = client.describe_change_set(ChangeSetName=made["Id"])["Changes"]
    assert change["ResourceChange"]["Action"] == "Add"
