import json
import sys
from uuid import uuid4

import pytest

from fakes import Context
from kiva_partner.ledger import Outcome, State
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
