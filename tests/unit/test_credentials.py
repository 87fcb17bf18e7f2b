import json

import boto3
import pytest

from cli.credentials import CannotStore, store
from cli.stacks import NoSuchStack
from fakes import FakeStack


@pytest.fixture
def stack(aws):
    arn = boto3.client("secretsmanager").create_secret(Name="credentials")["ARN"]
    return FakeStack({"CredentialsSecretArn": arn, "KivaEnvironment": "stage", "KivaPartnerId": "63"})


def answers(*values):
    left = list(values)
    return lambda prompt: left.pop(0)


def test_what_is_typed_is_stored_as_the_functions_read_it(stack, capsys):
    arn = store(stack, answers(" an-id ", "canary&+="))
    stored = boto3.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]
    assert json.loads(stored) == {
        "client_id": "an-id",
        "client_secret": "canary&+=",
        "environment": "stage",
        "partner_id": "63",
    }
    said = capsys.readouterr().err
    assert "partner 63 at Kiva's stage" in said
    assert "canary" not in said


@pytest.mark.parametrize("typed", [("", "x"), ("x", " ")])
def test_half_of_them_is_not_stored(stack, typed):
    with pytest.raises(CannotStore, match="both values are needed"):
        store(stack, answers(*typed))
    versions = boto3.client("secretsmanager").describe_secret(SecretId="credentials").get("VersionIdsToStages")
    assert not versions


def test_nothing_is_asked_before_the_secret_is_found():
    with pytest.raises(NoSuchStack, match="CredentialsSecretArn"):
        store(FakeStack(), answers())
