import json
import sys
from uuid import uuid4

import pytest

from fakes import Context
from kiva_partner.errors import Misconfigured
from kiva_partner.ledger import Outcome, Row, State
from kiva_partner.messages import Kind, Submission
from kiva_partner.relay import Result, Verdict
from kiva_partner.telemetry import Telemetry

ACCEPTED = Outcome(State.ACCEPTED, call_id="c" * 32)


@pytest.fixture
def telemetry():
    """Powertools keeps a logger for each name, so each test has a name of its own."""
    return Telemetry({"POWERTOOLS_SERVICE_NAME": f"tests-{uuid4()}"})


def results(number):
    submissions = [Submission(Kind.REPAYMENT, f"2026-10:L-{each}:1.00", f"L-{each}", {}, "f") for each in range(number)]
    return [Result(each, Verdict.STANDS, State.ACCEPTED, ACCEPTED, new=True) for each in submissions]


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_each_submission_has_a_line_that_says_what_became_of_it(telemetry, capsys):
    with telemetry.invocation(Context()):
        telemetry.submissions(Kind.REPAYMENT, results(3))
    *of_submissions, metrics = lines(capsys)
    assert [line["reference"] for line in of_submissions] == [f"2026-10:L-{each}:1.00" for each in range(3)]
    told = {"kind": "repayment", "verdict": "STANDS", "state": "ACCEPTED", "call_id": "c" * 32}
    assert all(told.items() <= line.items() for line in of_submissions)
    assert metrics["SubmissionAccepted"] == [3.0]


def test_a_line_of_a_submission_has_what_the_logger_puts_on_its_own_but_for_the_place(telemetry, capsys):
    telemetry._logger.registered_handler.setStream(sys.stdout)  # pytest has changed it since the fixture ran
    with telemetry.invocation(Context()):
        telemetry._logger.info("submission", extra={"kind": "repayment"})
        telemetry.submissions(Kind.REPAYMENT, results(1))
    theirs, ours, _ = lines(capsys)
    for line in (theirs, ours):
        line["timestamp"] = line["timestamp"][:10]
    assert theirs.items() - ours.items() == {("location", theirs["location"])}


def test_what_is_not_known_is_left_out(telemetry, capsys):
    (result,) = results(1)
    with telemetry.invocation(Context()):
        telemetry.submissions(Kind.REPAYMENT, [Result(result.submission, Verdict.AGAIN)])
    line, _ = lines(capsys)
    assert not {"state", "http_status", "call_id"} & set(line)


def test_no_submission_is_no_line(telemetry, capsys):
    with telemetry.invocation(Context()):
        telemetry.submissions(Kind.REPAYMENT, [])
    assert lines(capsys) == []


def test_who_wants_warnings_only_gets_no_lines(capsys, monkeypatch):
    monkeypatch.setenv("POWERTOOLS_LOG_LEVEL", "WARNING")
    quiet = Telemetry({"POWERTOOLS_SERVICE_NAME": f"tests-{uuid4()}"})
    with quiet.invocation(Context()):
        quiet.submissions(Kind.REPAYMENT, results(2))
    (metrics,) = lines(capsys)
    assert metrics["SubmissionAccepted"] == [2.0]


def written(capsys):
    """The metrics of an invocation: dimensions, and name and value of each, as CloudWatch reads the lines."""
    found = {}
    for line in lines(capsys):
        if "_aws" in line:
            (of,) = line["_aws"]["CloudWatchMetrics"]
            assert of["Namespace"] == "KivaRelay"
            (dimensions,) = of["Dimensions"]
            which = tuple(sorted((name, line[name]) for name in dimensions if name != "service"))
            assert "service" in dimensions
            found[which] = {each["Name"]: line[each["Name"]] for each in of["Metrics"]}
    return found


OF_DRAFTS, OF_REPAYMENTS = (("kind", "loan_draft"),), (("kind", "repayment"),)


def test_what_is_counted_is_counted_of_its_kind(telemetry, capsys):
    with telemetry.invocation(Context()):
        telemetry.submissions(Kind.REPAYMENT, results(3))
        telemetry.count("DeadLetter", 1, Kind.LOAN_DRAFT)
        telemetry.count("DeadLetter", 1, Kind.LOAN_DRAFT)
    assert written(capsys) == {OF_REPAYMENTS: {"SubmissionAccepted": [3.0]}, OF_DRAFTS: {"DeadLetter": [1.0, 1.0]}}


def test_a_misconfiguration_is_the_stacks_and_of_no_kind(telemetry, capsys):
    refused = Outcome(State.RETRY, "Kiva does not take the scope", misconfigured=True)
    (result,) = results(1)
    with telemetry.invocation(Context()):
        telemetry.submissions(Kind.REPAYMENT, [Result(result.submission, Verdict.AGAIN, outcome=refused)])
        telemetry.refused("nothing could be submitted", Misconfigured("the credentials are refused"))
    assert written(capsys) == {OF_REPAYMENTS: {"SubmissionAgain": [1.0]}, (): {"Misconfigured": [1.0, 1.0]}}


UNAVAILABLE = Outcome(State.RETRY, "could not connect to Kiva", unavailable=True)


@pytest.mark.parametrize(
    ("others", "counted"),
    [
        ([], True),
        ([Outcome(State.RETRY, "no time left")], True),
        ([Outcome(State.UNKNOWN)], True),
        ([ACCEPTED], False),
        ([Outcome(State.REJECTED)], False),
    ],
    ids=["nothing else", "more that was not sent", "a doubt", "one accepted", "one refused"],
)
def test_an_invocation_of_which_kiva_took_nothing_is_counted_once(telemetry, capsys, others, counted):
    outcomes = [UNAVAILABLE, UNAVAILABLE, *others]
    each = results(len(outcomes))
    with telemetry.invocation(Context()):
        telemetry.submissions(
            Kind.REPAYMENT,
            [
                Result(result.submission, Verdict.AGAIN, outcome.state, outcome, new=True)
                for result, outcome in zip(each, outcomes, strict=True)
            ],
        )
    assert written(capsys).get(()) == ({"KivaUnavailable": [1.0]} if counted else None)


def test_what_was_not_sent_for_another_reason_is_not_kivas_unavailability(telemetry, capsys):
    (result,) = results(1)
    later = Outcome(State.RETRY, "no time left")
    with telemetry.invocation(Context()):
        telemetry.submissions(Kind.REPAYMENT, [Result(result.submission, Verdict.AGAIN, State.RETRY, later, new=True)])
    assert () not in written(capsys)


def test_the_age_of_messages_is_told_when_it_is_worth_it(telemetry, capsys):
    with telemetry.invocation(Context()):
        telemetry.received(300)
    assert lines(capsys) == []
    with telemetry.invocation(Context()):
        telemetry.received(300.5)
    assert written(capsys) == {(): {"OldestMessageSeconds": [300.5]}}


def test_claims_that_ran_out_and_decisions_are_counted_of_their_kind(telemetry, capsys):
    now = "2026-11-25T10:00:00+00:00"
    rows = [Row(kind, "R", "L", State.UNKNOWN, "f", now, now) for kind in (Kind.LOAN_DRAFT, Kind.REPAYMENT)]
    with telemetry.invocation(Context()):
        telemetry.expired(rows)
        telemetry.decided(rows[:1], "abandon", "somebody")
    assert written(capsys) == {
        OF_DRAFTS: {"SubmissionUnknown": [1.0], "Decision": [1.0]},
        OF_REPAYMENTS: {"SubmissionUnknown": [1.0]},
    }


def test_a_gauge_of_nothing_is_not_written_and_costs_nothing(telemetry, capsys):
    with telemetry.invocation(Context()):
        telemetry.stands({"UnknownWaiting": 0, "DeadLetters": 0}, 0)
    assert lines(capsys) == []
    with telemetry.invocation(Context()):
        telemetry.stands({"UnknownWaiting": 2, "DeadLetters": 0}, 37.5)
    assert written(capsys) == {(): {"UnknownWaiting": [2.0], "RefusedPercent": [37.5]}}


def test_an_invocation_writes_its_own_metrics_alone_and_with_the_same_dimensions(telemetry, capsys):
    for _ in range(2):
        with telemetry.invocation(Context()):
            telemetry.submissions(Kind.REPAYMENT, results(1))
        assert written(capsys) == {OF_REPAYMENTS: {"SubmissionAccepted": [1.0]}}
    with telemetry.invocation(Context()):
        pass
    assert lines(capsys) == []


def test_a_metric_holds_kinds_and_numbers_and_nothing_of_a_submission(telemetry, capsys):
    with telemetry.invocation(Context()):
        telemetry.submissions(Kind.REPAYMENT, results(2))
        telemetry.received(4000)
    metrics = [line for line in lines(capsys) if "_aws" in line]
    said = [value for line in metrics for name, value in line.items() if name not in ("_aws", "service", "kind")]
    assert all(isinstance(number, float) for numbers in said for number in numbers)
    assert len(said) == 2
    assert "L-" not in json.dumps(metrics)
