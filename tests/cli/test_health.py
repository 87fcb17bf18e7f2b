"""`relay health`: a verdict for each line, the next command, and an exit code for machines."""

import json
from datetime import UTC, datetime

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from cli.relay_api import NoAnswer
from cli.stacks import DEAD_LETTERS, KINDS
from kiva_partner.errors import NotConfigured
from relay_answers import WELL

ALARM = {
    "AlarmDescription": 'Loan drafts are among the dead letters. docs/runbook.md: "Dead letters"',
    "Namespace": "KivaRelay",
    "MetricName": "DeadLetters",
    "Statistic": "Maximum",
    "Period": 60,
    "EvaluationPeriods": 1,
    "Threshold": 0,
    "ComparisonOperator": "GreaterThanThreshold",
}


@pytest.fixture
def told(relay):
    """What the API tells, to be changed."""
    return relay.health


@pytest.fixture
def deployed(aws, stack):
    """Its queues and an alarm, in moto's AWS; gives a client of each service."""
    sqs, cloudwatch = boto3.client("sqs"), boto3.client("cloudwatch")
    outputs = [*(f"{prefix}QueueUrl" for prefix in KINDS.values()), *DEAD_LETTERS.values()]
    stack.outputs |= {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in outputs}
    cloudwatch.put_metric_alarm(AlarmName="a-stack-Letters-1", **ALARM)
    cloudwatch.set_alarm_state(AlarmName="a-stack-Letters-1", StateValue="OK", StateReason="-")
    stack.typed = {"AWS::CloudWatch::Alarm": {"LettersAlarm": "a-stack-Letters-1"}}
    clients = {"sqs": sqs, "cloudwatch": cloudwatch}
    stack.client = clients.__getitem__
    return clients


@pytest.fixture
def lines(run, deployed, told):
    """What is said, as (name, verdict, detail, next), and the exit code."""

    def look():
        ran = run("health", "--stage", "prod", "--json")
        found = [tuple(line.values()) for line in json.loads(ran.stdout)["lines"]]
        return found, ran.exit_code

    return look


def wrong(lines):
    return [line for line in lines if line[1] != "ok"]


def test_of_a_stack_that_is_well_each_thing_is_said_once_and_all_is_well(lines):
    found, code = lines()
    assert wrong(found) == []
    assert code == 0
    assert {verdict for _, verdict, _, _ in found} == {"ok"}
    assert [name for name, *_ in found] == [
        *("token", "pauses", "circuits", "waiting", "unknown", "stuck", "refused", "housekeeping", "digest"),
        *("queues", "dead letters", "alarms"),
    ]
    assert ("token", "ok", "lasts until 20:15 UTC", "") in found
    assert ("alarms", "ok", "none of 1 rings", "") in found


def test_a_pause_is_told_with_who_and_why_and_the_command_that_ends_it(lines, told):
    word = {"by": "arn:ann", "reason": "exported twice", "at": "2026-11-28T09:00:00+00:00"}
    told["kinds"][2]["paused"] = word
    (line,) = wrong(lines()[0])
    assert line == (
        "pauses",
        "look",
        "repayments are paused since 09:00 UTC by arn:ann: exported twice",
        "relay resume repayment --reason … --stage prod",
    )


def test_a_restored_ledger_is_bad_and_leads_to_its_heading_of_the_runbook(lines, told):
    told["restored"] = True
    (line,) = wrong(lines()[0])
    assert (line[0], line[1], line[3]) == ("restored", "bad", 'docs/runbook.md, "The table was restored"')


NOT_RENEWED = {"ended_at": "2026-11-28T09:57:00+00:00", "result": {"token": "Kiva's token service does not answer"}}
TOKENS = {
    "none yet": ({}, WELL["housekeeping"], "look", "there is none yet"),
    "none, and why": ({}, NOT_RENEWED, "bad", "there is none yet: Kiva's token service does not answer"),
    "ended": (
        {"expires_at": "2026-11-27T23:00:00+00:00"},
        NOT_RENEWED,
        "bad",
        "the last one ended at 27 November, 23:00 UTC: Kiva's token service does not answer",
    ),
    "not renewed": (
        WELL["token"],
        NOT_RENEWED,
        "look",
        "lasts until 20:15 UTC, and is not renewed: Kiva's token service does not answer",
    ),
    "ends soon": (
        {"expires_at": "2026-11-28T10:30:00+00:00"},
        WELL["housekeeping"],
        "look",
        "lasts until 10:30 UTC, and is not renewed",
    ),
    "a scope is missing": (
        WELL["token"] | {"scopes_missing": ["create:repayment"]},
        WELL["housekeeping"],
        "look",
        "lasts until 20:15 UTC; not granted: create:repayment; what needs that waits",
    ),
    "cannot be read": ({"problem": "the shared token cannot be read: X"}, WELL["housekeeping"], "bad", None),
}


def test_a_fresh_stack_is_told_to_store_its_credentials(told, lines):
    failure = str(NotConfigured())
    told |= {"token": {}, "housekeeping": WELL["housekeeping"] | {"result": {"token": failure}}}
    detail = f"there is none yet: {failure}"
    assert wrong(lines()[0]) == [("token", "look", detail, "relay credentials --stage prod")]


@pytest.mark.parametrize(("token", "run_of", "verdict", "detail"), TOKENS.values(), ids=TOKENS)
def test_what_is_wrong_with_the_token_is_said_with_why_it_is_not_renewed(told, lines, token, run_of, verdict, detail):
    told |= {"token": token, "housekeeping": run_of}
    found, code = lines()
    assert wrong(found) == [("token", verdict, detail or token["problem"], "relay check --stage prod")]
    assert code == 1


def test_an_open_circuit_says_until_when_and_that_nothing_is_to_be_done(told, lines):
    told["kinds"][2]["open_until"] = "2026-11-28T10:05:00+00:00"
    found, code = lines()
    (line,) = wrong(found)
    assert line[:3] == ("circuits", "look", "Kiva leaves doubts: no repayments are sent until 10:05 UTC")
    assert line[3].startswith("wait")
    assert code == 1


def test_a_circuit_whose_time_is_over_waits_for_one_that_is_tried(told, lines):
    told["kinds"][0]["open_until"] = "2026-11-28T09:50:00+00:00"
    assert wrong(lines()[0])[0][2].endswith("until one that is tried is answered")


def test_what_waits_for_more_than_an_hour_is_told_with_the_reason_of_its_last_try(told, lines):
    told["kinds"][0] |= {
        "queued": {"submissions": 500, "more": True, "since": "2026-11-28T09:30:00+00:00"},
        "retry": {"submissions": 2, "since": "2026-11-28T07:00:00+00:00", "reason": "could not connect to Kiva"},
    }
    told["kinds"][1]["queued"] = {"submissions": 1, "since": "2026-11-28T09:59:50+00:00"}
    found, _ = lines()
    assert wrong(found) == [
        (
            "waiting",
            "look",
            "loan drafts: 500+ QUEUED, 2 RETRY, the oldest for 3 h; the last try: could not connect to Kiva",
            "relay list --state RETRY --kind loan_draft --stage prod",
        )
    ]
    assert ("waiting", "ok", "journal updates: 1 QUEUED, the oldest for 10 s", "") in found


@pytest.mark.parametrize(
    ("decidable_at", "says"),
    [("2026-11-28T09:50:00+00:00", ""), ("2026-11-28T10:12:00+00:00", "; to be decided from 10:12 UTC on")],
)
def test_unknown_outcomes_say_when_they_can_be_decided(told, lines, decidable_at, says):
    since = "2026-11-28T09:48:00+00:00"
    told["kinds"][2]["unknown"] = {"submissions": 250, "calls": 1, "since": since, "decidable_at": decidable_at}
    (line,) = wrong(lines()[0])
    assert line == (
        "unknown",
        "look",
        f"repayments: 1 call (250 submissions), for 12 min{says}",
        "relay list --state UNKNOWN --kind repayment --stage prod",
    )


def test_what_is_stuck_is_bad(told, lines):
    told["kinds"][1]["stuck"] = {"submissions": 1, "since": "2026-11-20T10:00:00+00:00"}
    (line,) = wrong(lines()[0])
    assert line[1:3] == ("bad", "journal updates: 1 that Kiva has not, for 8 days")


@pytest.mark.parametrize(("number", "verdict"), [(9, "ok"), (10, "look")])
def test_what_kiva_refuses_is_counted_and_many_are_to_be_looked_at(told, lines, number, verdict):
    told["kinds"][0]["refused"] = {"submissions": number, "since": "2026-11-28T09:10:00+00:00"}
    step = "relay list --state REJECTED --kind loan_draft --stage prod" if verdict == "look" else ""
    assert ("refused", verdict, f"loan drafts: {number} within the hour", step) in lines()[0]


@pytest.mark.parametrize(("ended_at", "verdict"), [("09:45:00", "ok"), ("09:44:59", "bad"), (None, "look")])
def test_housekeeping_is_late_after_three_of_its_runs(told, lines, ended_at, verdict):
    told["housekeeping"] = {"ended_at": f"2026-11-28T{ended_at}+00:00", "result": {}} if ended_at else {}
    (line,) = [line for line in lines()[0] if line[0] == "housekeeping"]
    assert line[1] == verdict
    assert ("runbook" in line[3]) == (verdict != "ok")


@pytest.mark.parametrize(("ended_at", "verdict"), [("2026-11-25T06:00:00", "ok"), ("2026-11-25T05:00:00", "look")])
def test_a_digest_of_friday_is_good_on_monday(told, lines, ended_at, verdict):
    told["digest"] = {"ended_at": f"{ended_at}+00:00", "result": {}}
    assert [line[1] for line in lines()[0] if line[0] == "digest"] == [verdict]


def test_dead_letters_are_counted_by_queue_those_of_outcomes_too(deployed, stack, lines):
    for output in ("LoanDraftsDeadLetterQueueUrl", "LoanDraftsDeadLetterQueueUrl", "OutcomesDeadLetterQueueUrl"):
        deployed["sqs"].send_message(QueueUrl=stack.output(output), MessageBody="canary")
    found, code = lines()
    assert wrong(found) == [
        ("dead letters", "bad", "loan drafts: 2", "relay deadletters loan_draft --stage prod"),
        ("dead letters", "bad", "outcomes: 1", "relay deadletters outcomes --stage prod"),
    ]
    assert code == 1


def test_messages_in_the_queues_are_counted_waiting_and_in_flight(deployed, stack, lines):
    url = stack.output("RepaymentsQueueUrl")
    for _ in range(3):
        deployed["sqs"].send_message(QueueUrl=url, MessageBody="canary")
    deployed["sqs"].receive_message(QueueUrl=url)
    assert ("queues", "ok", "repayments: 2 wait, 1 in flight or to be retried", "") in lines()[0]


@pytest.mark.parametrize(("seconds", "verdicts"), [(7300.0, ["look"]), (600.0, [])])
def test_of_messages_that_wait_the_age_of_the_oldest_is_told(deployed, stack, lines, seconds, verdicts):
    metric = {"MetricName": "OldestMessageSeconds", "Dimensions": [{"Name": "service", "Value": "a-stack"}]}
    at = datetime(2026, 11, 28, 9, 40, tzinfo=UTC)
    told = [{**metric, "Value": seconds, "Timestamp": at}]
    deployed["cloudwatch"].put_metric_data(Namespace="KivaRelay", MetricData=told)
    assert [line for line in lines()[0] if line[0] == "oldest message"] == []
    deployed["sqs"].send_message(QueueUrl=stack.output("RepaymentsQueueUrl"), MessageBody="canary")
    found = [line for line in lines()[0] if line[0] == "oldest message"]
    assert [line[1] for line in found] == verdicts
    assert [line[2] for line in found] == ["of the messages of the last hour one was 2 h old"][: len(verdicts)]


def test_an_alarm_that_rings_leads_to_its_heading_of_the_runbook(deployed, lines):
    deployed["cloudwatch"].set_alarm_state(AlarmName="a-stack-Letters-1", StateValue="ALARM", StateReason="-")
    deployed["cloudwatch"].put_metric_alarm(AlarmName="of-another-stack", **ALARM)
    deployed["cloudwatch"].set_alarm_state(AlarmName="of-another-stack", StateValue="ALARM", StateReason="-")
    (line,) = wrong(lines()[0])
    assert line[2].startswith("Loan drafts are among the dead letters. (for ")
    assert line[3] == 'docs/runbook.md, "Dead letters"'


REFUSED = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "DescribeAlarms")
NO_AWS = EndpointConnectionError(endpoint_url="https://sqs")
OTHER = ClientError({"Error": {"Code": "Throttling", "Message": "slow"}}, "DescribeAlarms")


@pytest.mark.parametrize(
    ("error", "says", "step"),
    [
        (REFUSED, "you may not look (AccessDenied)", "ask for cloudwatch:DescribeAlarms"),
        (OTHER, "AWS does not tell (Throttling)", ""),
        (NO_AWS, "AWS does not answer: EndpointConnectionError", ""),
    ],
)
def test_what_may_not_be_looked_at_is_said_and_fails_nothing(deployed, lines, error, says, step):
    def fail(**_):
        raise error

    deployed["cloudwatch"] = type("CloudWatch", (), {"describe_alarms": staticmethod(fail)})
    found, code = lines()
    (line,) = wrong(found)
    assert line[:3] == ("alarms", "unseen", says)
    assert line[3].startswith(step)
    assert code == 0


def test_where_the_api_does_not_answer_the_rest_is_told_and_the_exit_code_says_so(run, relay, deployed, monkeypatch):
    monkeypatch.setattr(relay, "get", lambda *_: (_ for _ in ()).throw(NoAnswer("The relay's API does not answer: X.")))
    ran = run("health", "--stage", "prod")
    assert ran.exit_code == 3
    assert "✗ api: does not tell how the stack stands" in ran.stdout
    assert "→ relay check --stage prod" in ran.stdout
    assert "✓ dead letters: there are none" in ran.stdout


def test_a_stage_that_is_not_there_is_no_stack(run):
    assert run("health", "--stage", "nowhere").exit_code == 3


def test_what_comes_from_outside_commands_no_terminal(run, told, deployed):
    told["token"] = {"problem": "\x1b[31m [bold]red"}
    assert "✗ token: ?[31m [bold]red" in run("health", "--stage", "prod").stdout
