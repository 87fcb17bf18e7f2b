"""The life of a stack on an embedded AWS, with the commands that a person runs: deploy, delete, adopt, deploy.

What MiniStack does otherwise than AWS is asserted as what it is, so that nobody takes this for a proof of it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local import processes
from local.stack import client_of, ministack

ROOT = Path(__file__).parents[2]
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
def relay(account, tmp_path_factory):
    """Run the command in a checkout whose samconfig.toml leads to that account; gives exit code and all it said."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "template.yaml", folder)
    for name in ("layers", "functions"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "samconfig.toml").write_text(SAMCONFIG.format(name=NAME, endpoint=account))
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    outside = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "COLUMNS": "200", "HOME": str(folder)}
    path = os.pathsep.join(map(str, (ROOT, ROOT / "layers" / "kiva_partner")))
    environment = kept | keys | outside | {"AWS_ENDPOINT_URL": account, "PYTHONPATH": path}

    def run(*arguments):
        command = [sys.executable, "-m", "cli", *arguments, "--stage", "try", "--yes"]
        ran = subprocess.run(  # noqa: S603 it is our own
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False
        )
        return ran.returncode, ran.stdout + ran.stderr

    return run


def stack(account):
    (found,) = client_of(account, "cloudformation").describe_stacks(StackName=NAME)["Stacks"]
    parameters = {it["ParameterKey"]: it["ParameterValue"] for it in found["Parameters"]}
    return found["StackStatus"], parameters


def physical(account):
    found = client_of(account, "cloudformation").describe_stack_resources(StackName=NAME)["StackResources"]
    return {it["LogicalResourceId"]: it["PhysicalResourceId"] for it in found}


def test_a_stack_is_deployed_deleted_adopted_and_deployed_again_with_its_ledger(account, relay):
    client = client_of(account, "cloudformation")

    code, said = relay("deploy")
    assert code == 0, said
    assert "is new" in said
    assert stack(account)[1]["DeletionProtection"] == "on"
    before = physical(account)
    row = {"pk": {"S": "sandbox#9001#submission#repayment#2026-10:L-1:5.00"}}
    client_of(account, "dynamodb").put_item(TableName=before["LedgerTable"], Item=row)
    client_of(account, "sqs").send_message(QueueUrl=before["RepaymentsDeadLetterQueue"], MessageBody="{}")

    code, said = relay("deploy")
    assert code == 0, said
    assert "no parameter changes" in said

    client.delete_stack(StackName=NAME)
    client.get_waiter("stack_delete_complete").wait(StackName=NAME, WaiterConfig={"Delay": 1})
    code, said = relay("deploy")
    assert code == 1
    assert "relay adopt --stage try" in said

    # MiniStack imports neither event buses nor secrets. (AWS: both, "Resource type support".)
    code, said = relay("adopt")
    assert code == 1
    assert "Resource import is not supported by this emulator for AWS::Events::EventBus" in said
    secret = f"CredentialsSecret={before['CredentialsSecret']}"
    client_of(account, "events").delete_event_bus(Name=NAME)
    code, said = relay("adopt", "--resource", secret)
    assert "not supported by this emulator for AWS::SecretsManager::Secret" in said
    # It puts no tag on a bucket that a stack makes, and does not tell the tag of a secret.
    code, said = relay("adopt", "--resource", f"PayloadBucket={before['PayloadBucket']}")
    assert code == 0, said
    assert "makes new ones: CredentialsSecret, EventBus, OnlyFunctionsReadCredentials" in said
    assert stack(account)[0] == "IMPORT_COMPLETE"

    code, said = relay("deploy")
    assert code == 0, said
    after = physical(account)
    kept = ("LedgerTable", "PayloadBucket", "StackKey", "RepaymentsQueue", "RepaymentsDeadLetterQueue")
    assert {it: after[it] for it in kept} == {it: before[it] for it in kept}
    assert client_of(account, "dynamodb").scan(TableName=after["LedgerTable"])["Items"] == [row]
    received = client_of(account, "sqs").receive_message(QueueUrl=after["RepaymentsDeadLetterQueue"])
    assert len(received["Messages"]) == 1
