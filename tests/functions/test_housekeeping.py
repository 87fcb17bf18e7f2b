import json
import time
from importlib import import_module
from itertools import batched

import boto3
import pytest
import time_machine

import kiva_partner.housekeeping
from deployment import credentials
from kiva_partner import runtime
from kiva_partner.ledger import Outcome, State
from kiva_partner.messages import Kind, Submission, parse


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
    assert "canary" not in out + json.dumps(done)


def test_a_run_that_finds_nothing_writes_no_metric(housekeeping, capsys):
    housekeeping()
    assert gauges(capsys) == {}


def test_it_tells_how_many_are_unknown(housekeeping, drafts, capsys):
    claimed(drafts, "L-dead", time.time() - 1)
    assert housekeeping()["unknown"] == 1
    assert gauges(capsys) == {"UnknownWaiting": 1}


def test_it_tells_how_many_circuits_are_open(housekeeping, capsys):
    for kind in (Kind.JOURNAL_UPDATE, Kind.REPAYMENT):
        runtime.breaker().note(kind, [False] * 3, trial=False)
    housekeeping()
    assert gauges(capsys) == {"CircuitsOpen": 2}


@pytest.fixture
def queues(queue_urls, monkeypatch):
    """A queue and a dead-letter queue of each kind, and one of outcomes; gives a way to put a message into one."""
    sqs = boto3.client("sqs")
    names = [*(f"{kind.upper()}_QUEUE_URL" for kind in Kind)]
    names += [f"{name.upper()}_DEAD_LETTER_QUEUE_URL" for name in (*Kind, "outcomes")]
    urls = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in names}
    for name, url in urls.items():
        monkeypatch.setenv(name, url)
    runtime.forget()

    def send(name, number=1, *, received=0):
        for _ in range(number):
            sqs.send_message(QueueUrl=urls[name], MessageBody="{}")
        if received:
            sqs.receive_message(QueueUrl=urls[name], MaxNumberOfMessages=received)

    return send


def test_it_counts_dead_letters_of_all_kinds_and_those_of_outcomes_for_themselves(housekeeping, queues, capsys):
    queues("LOAN_DRAFT_DEAD_LETTER_QUEUE_URL", 2, received=1)
    queues("REPAYMENT_DEAD_LETTER_QUEUE_URL")
    queues("OUTCOMES_DEAD_LETTER_QUEUE_URL", 4)
    housekeeping()
    assert gauges(capsys) == {"DeadLetters": 3, "OutcomeDeadLetters": 4}


def test_a_queue_of_which_nobody_takes_anything_is_told(housekeeping, queues, capsys):
    queues("LOAN_DRAFT_QUEUE_URL", 3)
    queues("REPAYMENT_QUEUE_URL", 3, received=1)
    queues("JOURNAL_UPDATE_QUEUE_URL", 1, received=1)
    housekeeping()
    assert gauges(capsys) == {"QueuesNotEmptied": 1}


def test_one_that_is_paused_is_left_alone_on_purpose(housekeeping, queues, capsys):
    queues("LOAN_DRAFT_QUEUE_URL", 3)
    runtime.sending().pause([Kind.LOAN_DRAFT], "arn:aws:iam::000000000000:user/wanjiku", "a test")
    housekeeping()
    assert gauges(capsys) == {}


def answered(kind, state, number, at="2026-11-28T11:59:00Z"):
    """Rows of a kind that Kiva has accepted or refused."""
    ledger, outcome = runtime.ledger(), Outcome(state, call_id="c")
    with time_machine.travel(at, tick=False):
        submissions = [Submission(kind, f"{state}-{each}-{at}", f"L-{each}", {}, "f") for each in range(number)]
        for some in batched(submissions, 50):
            ledger.claim(some, "somebody", time.time() + 60, {each.reference: "c" for each in some})
            ledger.settle([(each, outcome) for each in some], "somebody")


@pytest.mark.parametrize(
    ("rejected", "accepted", "told"),
    [(9, 0, None), (10, 0, 100), (10, 40, 20), (11, 40, 21.6), (11, 60, 20), (0, 5, None)],
)
def test_the_share_that_kiva_refused_is_told_from_ten_refusals_on(
    housekeeping, time_passes, capsys, rejected, accepted, told
):
    answered(Kind.REPAYMENT, State.REJECTED, rejected)
    answered(Kind.REPAYMENT, State.ACCEPTED, accepted)
    answered(Kind.LOAN_DRAFT, State.ACCEPTED, 60)
    housekeeping()
    assert gauges(capsys).get("RefusedPercent") == (told and pytest.approx(told, abs=0.1))


def test_the_kind_of_which_most_is_refused_counts(housekeeping, time_passes, capsys):
    answered(Kind.REPAYMENT, State.REJECTED, 10)
    answered(Kind.REPAYMENT, State.ACCEPTED, 30)
    answered(Kind.LOAN_DRAFT, State.REJECTED, 10)
    answered(Kind.LOAN_DRAFT, State.ACCEPTED, 10)
    housekeeping()
    assert gauges(capsys)["RefusedPercent"] == 50


def test_what_was_refused_an_hour_ago_is_not_told_any_more(housekeeping, time_passes, capsys):
    answered(Kind.REPAYMENT, State.REJECTED, 10, at="2026-11-28T10:59:59Z")
    housekeeping()
    assert "RefusedPercent" not in gauges(capsys)


def test_of_many_refusals_the_share_is_that_of_the_time_in_which_the_last_were(
    housekeeping, time_passes, monkeypatch, capsys
):
    monkeypatch.setattr(kiva_partner.housekeeping, "MOST_REFUSED", 20)
    answered(Kind.REPAYMENT, State.ACCEPTED, 30, at="2026-11-28T11:10:00Z")
    answered(Kind.REPAYMENT, State.REJECTED, 22)
    answered(Kind.REPAYMENT, State.ACCEPTED, 5)
    housekeeping()
    assert gauges(capsys)["RefusedPercent"] == pytest.approx(80)


def test_a_run_that_came_to_its_end_is_written_down_with_what_it_did(housekeeping):
    done = housekeeping()
    assert runtime.runs().last("housekeeping").result == done


def test_a_run_that_breaks_off_has_not_finished(housekeeping, monkeypatch, capsys):
    monkeypatch.setattr(type(runtime.ledger()), "every", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        housekeeping()
    assert runtime.runs().last("housekeeping") is None


def gauges(capsys):
    """The metrics that a run wrote of the whole stack."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"_aws"')]
    lines = [line for line in lines if "kind" not in line]
    names = [each["Name"] for line in lines for each in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]]
    return {name: value for line in lines for name in names if name in line for value in line[name]}
