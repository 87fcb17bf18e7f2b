import json

import boto3
import pytest
from botocore.exceptions import ClientError

from cli import stacks
from cli.credentials import CannotStore, store
from cli.stacks import SAMCONFIG, NoSuchStack, find, stack_of


class Stacks:
    """CloudFormation's one answer that matters here; moto's needs a dozen packages more."""

    def __init__(self, outputs):
        self._outputs = outputs

    def describe_stacks(self, StackName):  # noqa: N803 boto3's spelling
        if StackName != "a-stack":
            raise ClientError({"Error": {"Code": "ValidationError"}}, "DescribeStacks")
        return {"Stacks": [{"Outputs": self._outputs}]}


@pytest.fixture
def client(aws):
    arn = boto3.client("secretsmanager").create_secret(Name="credentials")["ARN"]
    outputs = {"CredentialsSecretArn": arn, "KivaEnvironment": "stage", "KivaPartnerId": "63"}
    stacks = Stacks([{"OutputKey": name, "OutputValue": value} for name, value in outputs.items()])
    return lambda service: stacks if service == "cloudformation" else boto3.client(service)


def answers(*values):
    left = list(values)
    return lambda prompt: left.pop(0)


def test_what_is_typed_is_stored_as_the_functions_read_it(client, capsys):
    arn = store("a-stack", client, answers(" an-id ", "canary&+="))
    stored = boto3.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]
    assert json.loads(stored) == {
        "client_id": "an-id",
        "client_secret": "canary&+=",
        "environment": "stage",
        "partner_id": "63",
    }
    said = capsys.readouterr().out
    assert "partner 63 at Kiva's stage" in said
    assert "canary" not in said


@pytest.mark.parametrize("typed", [("", "x"), ("x", " ")])
def test_half_of_them_is_not_stored(client, typed):
    with pytest.raises(CannotStore, match="both values are needed"):
        store("a-stack", client, answers(*typed))
    versions = boto3.client("secretsmanager").describe_secret(SecretId="credentials").get("VersionIdsToStages")
    assert not versions


def test_nothing_is_asked_before_the_secret_is_found(client):
    with pytest.raises(ClientError):
        store("no-stack", client, answers())
    with pytest.raises(NoSuchStack, match="no output CredentialsSecretArn"):
        store("a-stack", lambda _: Stacks([]), answers())


def test_the_stage_is_looked_up_in_samconfig():
    assert find("stage", SAMCONFIG.read_text())[0] == "kiva-relay-stage"
    with pytest.raises(NoSuchStack, match="it has local, stage, prod"):
        find("production", SAMCONFIG.read_text())


def test_local_is_the_stack_that_make_up_keeps_running(monkeypatch):
    monkeypatch.setattr(stacks, "attach", lambda: None)
    with pytest.raises(NoSuchStack, match="make up"):
        stack_of("local")
