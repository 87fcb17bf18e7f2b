"""What holds for everything that the tests before these have done; so these come last, and in this order."""

import json
import subprocess
from pathlib import Path

from e2e.world import NAME, SURNAME, loans
from local.stack import PARTNER, deploy


def stored_token(world):
    name = f"/kiva-relay/{world.stack.name}/token"
    return world.stack.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]


def test_the_functions_run_under_awss_own_runtime_client(world):
    group = world.state_file("ministack.pid")

    every_process = ["ps", "-A", "-o", "pgid=,args="]
    listed = subprocess.run(every_process, capture_output=True, text=True, check=True).stdout  # noqa: S603 it is fixed

    of_the_stack = [line for line in listed.splitlines() if line.split()[0] == group]
    assert any(line.endswith("-m awslambdaric app.handler") for line in of_the_stack)


def test_sam_local_finds_every_functions_variables_with_this_machine_as_containers_call_it(world):
    variables = json.loads(world.state_file("env.json"))

    assert len(variables) == 6
    for each in variables.values():
        assert each["LEDGER_TABLE"] == world.stack.physical_id("LedgerTable")
        assert each["KIVA_API_BASE_URL"].startswith("http://host.docker.internal:")
    assert "127.0.0.1" not in world.state_file("env.json")


def test_housekeeping_keeps_a_fresh_token_and_finds_nothing_to_do(world):
    world.post("loan_draft", world.draft(), Prefer="wait")

    world.housekeeping()  # which fetches Kiva's lists, where no test before has
    done = world.housekeeping()

    assert done.pop("token") == "kept"
    assert done.pop("catalogue") == "kept"
    assert set(done.values()) == {0}


def test_a_claim_whose_sender_died_becomes_unknown_and_is_not_sent_again(world):
    draft = world.draft(reference="sender-died")
    world.post("loan_draft", draft, Prefer="wait")
    world.die_while_sending("loan_draft", "sender-died")

    assert world.housekeeping()["claims_expired"] == 1

    submission = world.ended("loan_draft", "sender-died")
    assert submission["state"] == "UNKNOWN"
    assert "look in PA2" in submission["next_step"]
    assert world.post("loan_draft", draft, Prefer="wait").json()["state"] == "UNKNOWN"
    assert len(world.at_kiva("loan_draft", loans("loan_draft", draft)[0])) == 1


def test_kiva_was_asked_for_one_token_in_all_this_time_but_for_checks(world):
    world.post("loan_draft", world.draft(), Prefer="wait")

    assert world.sandbox("counters")["token_requests"] == 1 + world.tokens_of_checks


def test_with_the_other_token_store_housekeeping_fetches_a_token_that_all_use(world):
    others = {"TokenStore": "ssm", "JournalUpdatesUnknownPolicy": "resend", "CoordinatorEmail": "wanjiku@example.org"}
    deploy(world.stack, {"CsvColumns": "3", **others})

    assert world.housekeeping()["token"] == "renewed"

    for kind in ("loan_draft", "journal_update", "repayment"):
        assert world.post(kind, world.message(kind), Prefer="wait").json()["state"] == "ACCEPTED"
    assert world.sandbox("counters")["token_requests"] == 2 + world.tokens_of_checks
    assert stored_token(world)["Type"] == "SecureString"


def test_with_the_other_policy_what_nobody_knows_about_is_sent_again_by_itself(world):
    message = world.journals(2, reference="by-policy")
    references = world.die_before_sending("journal_update", message)
    world.housekeeping()
    world.post("journal_update", message, Prefer="wait")  # nothing is sent, but now it is kept

    assert world.housekeeping()["sent_again"] == 2
    assert world.housekeeping()["requeued"] == 2

    for reference, loan in zip(references, loans("journal_update", message), strict=True):
        submission = world.ended("journal_update", reference)
        assert submission["state"] == "ACCEPTED"
        assert [decision["by"] for decision in submission["decisions"]] == ["policy"]
        assert len(world.at_kiva("journal_update", loan)) == 1


def test_with_a_coordinator_the_digest_is_mailed_with_a_line_for_each_thing(world):
    sns, sqs = world.stack.client("sns"), world.stack.client("sqs")
    topic = world.stack.physical_id("DigestTopic")
    (mail,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert (mail["Protocol"], mail["Endpoint"]) == ("email", "wanjiku@example.org")
    mailbox = sqs.create_queue(QueueName="mailbox")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=mailbox, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    may_send = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [may_send | {"Resource": arn}]})
    sqs.set_queue_attributes(QueueUrl=mailbox, Attributes={"Policy": policy})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    world.post("loan_draft", world.draft(), Prefer="wait")

    digest = world.digest()

    assert "to publish in PA2 > Loans > Drafts" in digest
    (message,) = world.until(lambda: sqs.receive_message(QueueUrl=mailbox).get("Messages"), "a mail")
    assert message["Body"] == digest


def test_all_that_a_stack_has_written_is_its_owners_alone(world):
    """But for the functions' code, whose modes MiniStack sets; it lies in a folder that is its owner's alone."""
    state = Path(world.stack.state)
    written = [state, state.with_name("stack.lock"), *state.rglob("*")]
    code = [each for each in written if each.is_file() and "ministack-provided-code" in str(each)]

    assert {"sandbox.log", "ministack.log", "env.json", "aws.sh"} <= {each.name for each in written}
    assert {each.name for each in code} <= {"app.py", "app.cpython-313.pyc", "bootstrap"}
    assert [str(each) for each in written if each not in code and each.lstat().st_mode & 0o077] == []


def test_no_secret_no_token_and_no_borrower_is_in_the_functions_logs(world):
    logged = world.function_logs()
    token = json.loads(stored_token(world)["Value"])["access_token"]
    beginning_of_every_token = token.partition(".")[0]

    assert '"message":"submission"' in logged
    for hidden in (beginning_of_every_token, PARTNER.client_secret, NAME, SURNAME):
        assert hidden not in logged
