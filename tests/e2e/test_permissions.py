"""Permissions are checked: a function without a right is refused, and what it was to do waits until it has it again."""

import json
from contextlib import contextmanager

import boto3
import pytest
from botocore.exceptions import ClientError

from e2e.world import FINAL, SCOPE, loans
from local.stack import REGION


@contextmanager
def without_rights(world, function):
    """While a function's role has lost its own policy, and with it ledger, queue and bucket."""
    iam = world.stack.client("iam")
    role = world.stack.physical_id(f"{function}Role")
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    assert names
    policies = {name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names}
    for name in names:
        iam.delete_role_policy(RoleName=role, PolicyName=name)
    try:
        yield
    finally:
        for name, document in policies.items():
            text = document if isinstance(document, str) else json.dumps(document)
            iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=text)


def test_a_console_without_the_right_to_read_the_ledger_shows_nothing_of_it(world):
    _, reference = world.location_of(world.post("loan_draft", world.draft(), Prefer="wait"))
    path = f"/submissions/loan_draft/{reference}"
    with without_rights(world, "ConsoleFunction"):
        refused = world.stack.call("GET", path)
    assert (refused.status_code, "state" in refused.json()) == (503, False)
    assert "unexpected ClientError" in world.function_logs()
    assert world.stack.call("GET", path).json()["state"] in FINAL


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("LoanDraftsFunction", "loan_draft"),
        ("JournalUpdatesFunction", "journal_update"),
        ("RepaymentsFunction", "repayment"),
    ],
)
def test_a_function_without_the_right_to_claim_sends_nothing(world, function, kind):
    message = world.message(kind)
    with without_rights(world, function):
        refused = world.post(kind, message, Prefer="wait")
        assert refused.status_code == 503
        assert world.at_kiva(kind, loans(kind, message)[0]) == []
    assert world.post(kind, message, Prefer="wait").json()["state"] == "ACCEPTED"
    assert len(world.at_kiva(kind, loans(kind, message)[0])) == 1


def test_known_gaps_of_the_imitation_of_aws(world):
    """What MiniStack does not do as AWS does. When one of these fails, it has learnt it, and tests may rely on it."""
    # It knows no leading keys: a right on some rows is a right on all of them. (tests/functions evaluate them instead.)
    iam, role = world.stack.client("iam"), "gaps"
    trusted = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    iam.create_role(RoleName=role, AssumeRolePolicyDocument=policy(trusted), Path="/somewhere/")
    rows = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": "sandbox#9001#catalogue"}}
    table = {"Effect": "Allow", "Action": "dynamodb:GetItem", "Resource": "*", "Condition": rows}
    # It takes a role's session, and not the role, for who calls: what is denied to all but a role is denied to it too.
    arn = iam.get_role(RoleName=role)["Role"]["Arn"]
    others = {"ArnNotLike": {"aws:PrincipalArn": arn}}
    secret = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "*"}
    but = {"Effect": "Deny", "Action": "secretsmanager:GetSecretValue", "Resource": "*", "Condition": others}
    iam.put_role_policy(RoleName=role, PolicyName="own", PolicyDocument=policy(table, secret, but))
    keys = world.stack.client("sts").assume_role(RoleArn=arn, RoleSessionName="gaps")["Credentials"]

    def as_the_role(service):
        return boto3.client(
            service,
            endpoint_url=world.stack.endpoint,
            region_name=REGION,
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"],
        )

    lease = {"pk": {"S": f"{SCOPE}#lease#token"}}
    assert as_the_role("dynamodb").get_item(TableName=world.stack.physical_id("LedgerTable"), Key=lease)
    with pytest.raises(ClientError, match="AccessDenied"):
        as_the_role("secretsmanager").get_secret_value(SecretId=world.stack.physical_id("CredentialsSecret"))


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
