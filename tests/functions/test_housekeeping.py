import json
import time
from importlib import import_module

import boto3
import pytest

from deployment import credentials
from kiva_partner import runtime
from kiva_partner.ledger import State
from kiva_partner.messages import Kind, parse


@pytest.fixture
def housekeeping(deployed, context):
    def run():
        return import_module("housekeeping.app").handler({"detail-type": "Scheduled Event"}, context)

    return run


def claimed(drafts, loan, lease_until):
    submission = parse(Kind.LOAN_DRAFT, json.dumps(drafts.message(loan)), runtime.settings().rules).submissions[0]
    runtime.ledger().claim([submission], "somebody who died", lease_until)


def test_the_first_run_fetches_the_token_and_the_next_keeps_it(housekeeping, deployed):
    assert housekeeping()["token"] == "renewed"
    assert housekeeping()["token"] == "kept"
    assert deployed.token_requests == 1


def test_a_submission_after_housekeeping_asks_for_no_token(housekeeping, drafts, deployed):
    housekeeping()
    runtime.forget()
    drafts.batch(drafts.message("L-1"))
    assert deployed.token_requests == 1


def test_claims_that_nobody_will_finish_become_unknown_and_are_counted(housekeeping, drafts, capsys):
    claimed(drafts, "L-dead", time.time() - 1)
    claimed(drafts, "L-alive", time.time() + 100)
    assert housekeeping()["claims_expired"] == 1
    assert runtime.ledger().read(Kind.LOAN_DRAFT, "L-dead").state is State.UNKNOWN
    assert runtime.ledger().read(Kind.LOAN_DRAFT, "L-alive").state is State.SENDING
    assert '"SubmissionUnknown":[1.0]' in capsys.readouterr().out
    assert housekeeping()["claims_expired"] == 0


def test_a_secret_that_kiva_does_not_take_alarms_while_the_one_before_still_serves(housekeeping, deployed, capsys):
    boto3.client("secretsmanager").put_secret_value(SecretId="credentials", SecretString=credentials("canary-typo"))
    deployed.secrets = ("canary-secret&+=",)
    assert housekeeping()["token"] == "renewed"
    out = capsys.readouterr().out
    assert "the credentials stored last do not work, those before them still do" in out
    assert '"Misconfigured":[1.0]' in out
    assert '"TokenRenewalFailed":[1.0]' in out
    assert "canary" not in out
    assert housekeeping()["token"] == "kept"
    out = capsys.readouterr().out
    assert "Misconfigured" not in out
    assert "TokenRenewalFailed" not in out


def test_a_token_that_cannot_be_renewed_does_not_keep_claims_from_expiring(housekeeping, drafts, capsys):
    claimed(drafts, "L-dead", time.time() - 1)
    boto3.client("secretsmanager").update_secret(SecretId="credentials", SecretString='{"client_id": "canary"}')
    done = housekeeping()
    assert done["claims_expired"] == 1
    assert "client_secret" in done["token"]
    out = capsys.readouterr().out
    assert '"Misconfigured":[1.0]' in out
    assert '"TokenRenewalFailed":[1.0]' in out
    assert '"HousekeepingFinished":[1.0]' in out
    assert "canary" not in out + json.dumps(done)


def test_it_tells_how_each_kind_stands(housekeeping, drafts, capsys):
    claimed(drafts, "L-dead", time.time() - 1)
    assert housekeeping()["unknown"] == 1
    metrics = gauges(capsys)
    assert metrics.keys() == {kind.value for kind in Kind}
    assert {kind: said["UnknownWaiting"] for kind, said in metrics.items()} == {
        "loan_draft": [1.0],
        "journal_update": [0.0],
        "repayment": [0.0],
    }
    assert all(said["BreakerOpen"] == [0.0] for said in metrics.values())
    assert [kind for kind, said in metrics.items() if "OldestUnknownSeconds" in said] == ["loan_draft"]
    assert 0 <= metrics["loan_draft"]["OldestUnknownSeconds"][0] < 60


def test_it_tells_that_the_breaker_of_a_kind_is_open(housekeeping, capsys):
    runtime.breaker().note(Kind.JOURNAL_UPDATE, [False] * 3, trial=False)
    housekeeping()
    assert {kind: said["BreakerOpen"] for kind, said in gauges(capsys).items()} == {
        "loan_draft": [0.0],
        "journal_update": [1.0],
        "repayment": [0.0],
    }


def test_a_run_that_came_to_its_end_is_written_down_with_what_it_did(housekeeping):
    done = housekeeping()
    assert runtime.runs().last("housekeeping").result == done


def test_a_run_that_breaks_off_has_not_finished(housekeeping, monkeypatch, capsys):
    monkeypatch.setattr(type(runtime.ledger()), "every", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        housekeeping()
    assert "HousekeepingFinished" not in capsys.readouterr().out
    assert runtime.runs().last("housekeeping") is None


def gauges(capsys):
    """The metrics of each kind that a run wrote."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"_aws"')]
    return {line["kind"]: line for line in lines if "kind" in line}
