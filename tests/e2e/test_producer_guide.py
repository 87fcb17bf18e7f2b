"""docs/producers.md does what it says: its messages, commands, programs and policies, as they are written there."""

import os
import re
import shutil
import subprocess
import sys
from shlex import quote
from urllib.parse import urlsplit

import pytest

from guide import GUIDE, blocks
from images import data_uri, jpeg
from local.stack import REGION
from template.cloudformation import ROOT

SENT = [
    ("repayment", "L-71434-1"),
    ("repayment", "L-71465-1"),
    ("repayment", "L-71469-1"),
    ("loan_draft", "L-77310-2"),
    ("loan_draft", "GL-0513-1"),
    ("journal_update", "L-71375-1"),
    ("journal_update", "L-71356-1"),
]
"""Kind and loan of all that the guide's blocks send."""

FIRST_OF_GROUP = {"GL-0513-1": "L-77311-1"}
PHOTO = jpeg(640, 480)
OPERATOR = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def curl_version():
    """The machine's curl; (0, 0) when there is none."""
    curl = shutil.which("curl")
    said = subprocess.run([curl, "--version"], capture_output=True, text=True, check=True).stdout if curl else ""  # noqa: S603
    found = re.match(r"curl (\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else (0, 0)


def of_loan(world, loan):
    """What the relay has of a loan."""
    return world.stack.call("GET", f"/submissions?loan_id={loan}").json()["submissions"]


pytestmark = pytest.mark.skipif(
    curl_version() < (7, 76), reason=f"the guide's curl signs requests, which takes 7.76; this one is {curl_version()}"
)


class Reader:
    """Somebody who follows the guide: a folder with its files, the tools it names, and a user for each policy."""

    def __init__(self, world, folder):
        self.folder = folder
        self.environment = {
            "PATH": os.pathsep.join([str(folder / "bin"), os.environ["PATH"]]),
            "HOME": str(folder),
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": world.stack.endpoint,
            "NO_PROXY": "127.0.0.1",
            "STACK": world.stack.name,
        }
        self.credentials = {"operator": OPERATOR}
        (folder / "photo.jpg").write_bytes(PHOTO)
        for block in blocks(GUIDE, "file"):
            (folder / block.name).write_text(block.text)
        # The first version of the AWS command line asks AWS itself for SQS, unless it is told on the command line.
        aws = folder / "bin" / "aws"
        aws.parent.mkdir()
        aws.write_text(
            f'#!/bin/sh\nexec {quote(str(ROOT))}/.venvs/aws/bin/aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"\n'
        )
        aws.chmod(0o755)

    def run(self, language, text, user):
        """Run a block as it is written; what it printed, and how it ended."""
        command = {"sh": ["bash", "-euo", "pipefail"], "python": [sys.executable]}[language]
        return subprocess.run(  # noqa: S603 the guide is ours
            [*command, "-c", text],
            cwd=self.folder,
            env=self.environment | self.credentials[user],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def learn(self, printed, api):
        """Note the outputs that the operator gave; the API is where it answers on this machine."""
        told = dict(line.split("=", 1) for line in printed.splitlines())
        names = {
            "REGION": REGION,
            "ACCOUNT": told["STACK_KEY_ARN"].split(":")[4],
            "STACK": self.environment["STACK"],
            "API_ID": urlsplit(told["API_URL"]).netloc.split(".")[0],
        } | told
        self.environment |= told | {"API_URL": api}
        return names

    def become(self, iam, user, policy):
        """Make a user who has this policy and nothing else."""
        iam.create_user(UserName=user)
        iam.put_user_policy(UserName=user, PolicyName="of-the-guide", PolicyDocument=policy)
        key = iam.create_access_key(UserName=user)["AccessKey"]
        self.credentials[user] = {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }


@pytest.fixture(scope="module")
def reader(world, tmp_path_factory):
    reader = Reader(world, tmp_path_factory.mktemp("producer"))
    (outputs,) = [block for block in blocks(GUIDE, "run") if block.name == "operator"]
    ended = reader.run(outputs.language, outputs.text, "operator")
    assert ended.returncode == 0, ended.stderr
    names = reader.learn(ended.stdout, world.stack.api)
    for block in blocks(GUIDE, "policy"):
        policy = re.sub(r"\b[A-Z][A-Z_]+\b", lambda word: names.get(word[0], word[0]), block.text)
        reader.become(world.stack.client("iam"), block.name, policy)
    return reader


@pytest.fixture(scope="module")
def ended(reader):
    """How each block of a producer ended, in the guide's order."""
    return {
        str(block): reader.run(block.language, block.text, block.name)
        for block in blocks(GUIDE, "run")
        if block.name != "operator"
    }


def test_what_the_operator_hands_over_are_the_stacks_own_names(world, reader):
    told = reader.environment
    assert told["LOAN_DRAFTS_QUEUE_URL"] == world.stack.queues["loan_draft"]
    assert told["JOURNAL_UPDATES_QUEUE_URL"] == world.stack.queues["journal_update"]
    assert told["REPAYMENTS_QUEUE_URL"] == world.stack.queues["repayment"]
    assert told["PAYLOAD_BUCKET_NAME"] == world.stack.physical_id("PayloadBucket")
    assert told["STACK_KEY_ARN"].endswith(world.stack.physical_id("StackKey"))


@pytest.mark.parametrize("block", [str(block) for block in blocks(GUIDE, "run") if block.name != "operator"])
def test_a_block_runs_with_the_guides_policy_alone(ended, block):
    assert (ended[block].returncode, ended[block].stderr) == (0, "")
    assert ended[block].stdout


@pytest.mark.parametrize(("kind", "loan"), SENT)
def test_what_a_block_sent_is_accepted_and_at_kiva_once(world, ended, kind, loan):
    (submission,) = world.until(lambda: of_loan(world, loan), f"a {kind} of {loan}")

    assert world.ended(kind, submission["reference"])["state"] == "ACCEPTED"
    assert len(world.at_kiva(kind, FIRST_OF_GROUP.get(loan, loan))) == 1


def test_the_photo_beside_the_message_is_the_one_that_was_put_into_the_bucket(world, ended):
    world.ended("loan_draft", "GL-0513-1")

    (draft,) = world.at_kiva("loan_draft", FIRST_OF_GROUP["GL-0513-1"])
    assert draft["image_encoded"] == data_uri(PHOTO, "image/jpeg")


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("repayments", 'aws sqs send-message --queue-url "$LOAN_DRAFTS_QUEUE_URL" --message-body file://draft.json'),
        ("repayments", 'aws sqs receive-message --queue-url "$REPAYMENTS_QUEUE_URL"'),
        ("repayments", 'aws s3 cp photo.jpg "s3://$PAYLOAD_BUCKET_NAME/photos/another.jpg"'),
        ("drafts", 'aws sqs send-message --queue-url "$REPAYMENTS_QUEUE_URL" --message-body file://repayments.json'),
        ("drafts", 'aws s3 cp photo.jpg "s3://$PAYLOAD_BUCKET_NAME/unknown/another.jpg"'),
        ("drafts", 'aws s3 cp "s3://$PAYLOAD_BUCKET_NAME/photos/GL-0513-1.jpg" copy.jpg'),
        ("journals", 'aws sqs send-message --queue-url "$REPAYMENTS_QUEUE_URL" --message-body file://repayments.json'),
    ],
)
def test_a_policy_allows_nothing_else(reader, ended, user, command):
    refused = reader.run("sh", command, user)

    assert refused.returncode != 0
    assert re.search(r"AccessDenied|Forbidden", refused.stderr)


@pytest.mark.parametrize("other", ["loan-drafts", "repayments", "submissions/journal_update/R7/decision"])
def test_the_policy_for_one_route_is_refused_on_the_others(reader, other):
    (curl,) = [block for block in blocks(GUIDE, "run") if "curl " in block.text]

    refused = reader.run("sh", curl.text.replace("/journal-updates", f"/{other}"), "journals")

    assert "403" in refused.stderr
    assert "not authorized to perform: execute-api:Invoke" in refused.stdout
