"""The life of a stack on an embedded AWS, with the commands that a person runs: deploy, delete, adopt, deploy.

What MiniStack does otherwise than AWS is asserted as what it is, so that nobody takes this for a proof of it.
"""

import os
import shutil
import subprocess
from datetime import UTC, datetime

import pytest

from cli import adopt
from guide import blocks
from local import processes
from local.stack import REGION, client_of, ministack
from template.cloudformation import ROOT

NAME = "kiva-relay-try"
SAMCONFIG = """
version = 0.1
[try.global.parameters]
region = "us-east-1"
[try.deploy.parameters]
stack_name = "{name}"
resolve_s3 = true
capabilities = "CAPABILITY_IAM"
parameter_overrides = [
    "KivaEnvironment=sandbox",
    "KivaPartnerId=9001",
    "KivaTokenUrl=http://127.0.0.1:1/oauth/token",
    "KivaAudience=http://127.0.0.1:1",
    "KivaApiBaseUrl=http://127.0.0.1:1",
    "AwsEndpointUrl={endpoint}",
    "DeletionProtection=on",
]
"""


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """An account in which nothing was ever deployed: where it answers."""
    state, port = tmp_path_factory.mktemp("life") / "state", processes.free_port(4566, insisted=None, option="")
    state.mkdir()
    ministack(state, processes.LOOPBACK, port, permissions=False)
    yield f"http://{processes.LOOPBACK}:{port}"
    processes.stop("ministack", state=state)


@pytest.fixture(scope="module")
def shell(account, tmp_path_factory):
    """Run lines in a checkout whose samconfig.toml leads to that account; gives exit code and all they said.

    Whoever is asked says yes.
    """
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "template.yaml", folder)
    for name in ("layers", "functions"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "samconfig.toml").write_text(SAMCONFIG.format(name=NAME, endpoint=account))
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    outside = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "COLUMNS": "200"}
    nobody = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    bins = [ROOT / ".venvs" / name / "bin" for name in ("dev", "aws")]
    path = {"PATH": os.pathsep.join([*map(str, bins), os.environ["PATH"]])}
    aws = {"AWS_ENDPOINT_URL": account, "AWS_DEFAULT_REGION": REGION, "STAGE": "try", "STACK": NAME}
    environment = kept | keys | nobody | outside | path | aws

    def run(lines, **variables):
        ran = subprocess.run(  # noqa: S603 it is our own
            ["/bin/bash", "-uc", f"{HERE}{lines}"],
            cwd=folder,
            env=environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=500,
            check=False,
        )
        return ran.returncode, ran.stdout

    return run


def chapter(name):
    """What docs/deploy.md has people type."""
    return "".join(block.text for block in blocks(ROOT / "docs" / "deploy.md", "run") if block.name == name)


def parameters(account):
    (found,) = client_of(account, "cloudformation").describe_stacks(StackName=NAME)["Stacks"]
    return {it["ParameterKey"]: it["ParameterValue"] for it in found["Parameters"]}


def physical(account):
    found = client_of(account, "cloudformation").describe_stack_resources(StackName=NAME)["StackResources"]
    return {it["LogicalResourceId"]: it["PhysicalResourceId"] for it in found}


def rows(account, table):
    return client_of(account, "dynamodb").scan(TableName=table)["Items"]


# Each question has an answer of its own; and the AWS command line asks SQS at its old address, unless told where.
HERE = """
relay() { yes | command relay "$@"; }
aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }
"""
ROW = {"pk": {"S": "sandbox#9001#submission#repayment#2026-10:L-1:5.00"}}
KEPT = ("LedgerTable", "PayloadBucket", "StackKey", "RepaymentsQueue", "RepaymentsDeadLetterQueue")


def test_a_new_stack_is_deployed_and_protected(account, shell):
    code, said = shell("relay deploy --stage try")

    assert code == 0, said
    assert "is new" in said
    assert parameters(account)["DeletionProtection"] == "on"


def test_deployed_again_nothing_changes(shell):
    code, said = shell("relay deploy --stage try --yes")

    assert code == 0, said
    assert "no parameter changes" in said


def test_deleted_and_adopted_it_has_its_ledger_and_its_messages(account, shell):
    before = physical(account)
    client_of(account, "dynamodb").put_item(TableName=before["LedgerTable"], Item=ROW)
    client_of(account, "sqs").send_message(QueueUrl=before["RepaymentsDeadLetterQueue"], MessageBody="{}")

    assert shell(chapter("delete"))[0] == 0
    code, said = shell("relay deploy --stage try")
    assert code == 1
    assert "relay adopt --stage try" in said
    # What MiniStack cannot, asserted: it imports neither event buses nor secrets.
    cannot = "Resource import is not supported by this emulator for AWS::"
    assert f"{cannot}Events::EventBus" in shell("relay adopt --stage try")[1]
    client_of(account, "events").delete_event_bus(Name=NAME)
    secret = f"CredentialsSecret={before['CredentialsSecret']}"
    assert f"{cannot}SecretsManager::Secret" in shell(f"relay adopt --stage try --resource {secret}")[1]
    tag(account, before["PayloadBucket"])
    _, said = shell(chapter("recreate"))

    assert "makes new ones: CredentialsSecret, EventBus, OnlyFunctionsReadCredentials" in said
    after = physical(account)
    assert "LoanDraftsFunction" in after
    assert {it: after[it] for it in KEPT} == {it: before[it] for it in KEPT}
    assert rows(account, after["LedgerTable"]) == [ROW]
    received = client_of(account, "sqs").receive_message(QueueUrl=after["RepaymentsDeadLetterQueue"])
    assert len(received["Messages"]) == 1


def tag(account, bucket):
    """MiniStack lets a stack's bucket have no tags."""
    tags = {"TagSet": [{"Key": adopt.TAG, "Value": NAME}]}
    client_of(account, "s3").put_bucket_tagging(Bucket=bucket, Tagging=tags)


def test_a_restored_table_takes_the_place_of_the_ledger(account, shell):
    before = physical(account)

    code, said = shell(f"set -e\n{chapter('restore')}", SINCE=datetime.now(UTC).isoformat(timespec="seconds"))
    assert code == 0, said
    assert shell(chapter("delete"))[0] == 0
    client_of(account, "events").delete_event_bus(Name=NAME)
    tag(account, before["PayloadBucket"])
    shell(chapter("recreate"))

    assert physical(account)["LedgerTable"] == f"{NAME}-restored"
    assert rows(account, f"{NAME}-restored") == [ROW]
    code, said = shell(f"set -e\n{chapter('drift')}")
    assert code == 0, said
    assert "LedgerTable" not in said  # it has been given all that did not come along
    off = "aws dynamodb update-table --no-deletion-protection-enabled --table-name $STACK-restored"
    assert "LedgerTable" in shell(f"{off} >/dev/null\n{chapter('drift')}")[1]
    assert parameters(account)["KivaPartnerId"] == "9001"
    assert physical(account)["StackKey"] == before["StackKey"]


def test_nothing_is_left_where_all_of_it_was_deleted(account, shell):
    there = physical(account)
    shell(chapter("delete"))

    named = {"TABLE": there["LedgerTable"], "SECRET": there["CredentialsSecret"], "KEY": there["StackKey"]}
    code, said = shell(f"set -e\n{chapter('gone')}", **named)

    assert code == 0, said
    code, said = shell("relay adopt --stage try")
    assert code == 1
    assert there["LedgerTable"] not in said
