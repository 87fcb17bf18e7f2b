"""Kiva is away for half a day or a day: nothing is lost, nothing is doubled, and hardly anybody has to look at PA2.

Simulated time, the numbers of template.yaml, as many environments as it allows; while one waits for Kiva's answer the
others work. Polled once a simulated minute, so that what is visible by then comes in full batches.
"""

import random
import time
from itertools import cycle

import pytest

from cloudwatch import alarm, points, ringing
from faults.bookkeeping_kiva import End
from faults.extent import WHOLE
from faults.stage import concurrency, parallel_calls
from kiva_partner.ledger import State
from kiva_partner.messages import Kind
from template.cloudformation import of_type, read

HOUR = 3600
BURST = 120
DOUBTS = 3
FIRST_PAUSE, LONGEST_PAUSE = 60, HOUR
"""What is promised of the breaker, said here once more: a constant of the code would follow its mistakes."""

AT_ONCE = sum(concurrency(kind) * parallel_calls(kind) for kind in Kind)
ENVIRONMENTS = sum(concurrency(kind) for kind in Kind) + 1


def trials(seconds):
    """How often the breaker of one kind lets somebody try in this time: the pauses double up to an hour."""
    number, passed = 0, FIRST_PAUSE
    while passed <= seconds:
        number += 1
        passed += min(FIRST_PAUSE * 2**number, LONGEST_PAUSE)
    return number


class Outage:
    """First 503s, some of them with the work done; then by turns nobody there, and a gateway with nobody behind it."""

    def __init__(self, kiva, seconds, *, reads_too=True):
        self._since, self._reads_too = time.time(), reads_too
        self._doubts = cycle([End.UNAVAILABLE, End.UNAVAILABLE_BUT_DONE, End.RESET, End.RESET_BUT_DONE])
        self._until = self._since + seconds
        kiva.ends = self.end
        if reads_too:
            kiva.reads = kiva.token_answers = self.status

    def is_over(self):
        return time.time() >= self._until

    def nobody_there(self):
        age = time.time() - self._since
        return self._reads_too and age > BURST and age % 1200 < 600

    def end(self, path):
        if self.is_over():
            return End.ACCEPTED
        return End.NO_CONNECTION if self.nobody_there() else next(self._doubts)

    def status(self):
        if self.is_over():
            return 200
        return None if self.nobody_there() else 503


def begin(stage, events):
    """A fifth of the events lies in the queues when it begins."""
    sent = [(kind, f"L-{number}") for number in range(events // 15) for kind in Kind]
    for kind, loan in sent:
        stage.send(kind, loan)
    stage.deliver()
    return set(sent)


def go_on(stage, events, seconds):
    """The others come while it lasts."""
    sent = [(kind, f"L-{number}") for number in range(events // 15, events // 3) for kind in Kind]
    for part in range(100):
        for kind, loan in sent[part::100]:
            stage.send(kind, loan)
        stage.deliver(seconds / 100)
    return set(sent)


def recover(stage):
    for _ in range(12):
        stage.deliver(HOUR)
        if not any(queue.messages for queue in stage.queues.values()):
            return


def balance(stage, line, sent, most_unknown):
    """Everything was accepted once but for the few that nobody can tell; those were processed once or not at all."""
    accepted, unknown = stage.loans(State.ACCEPTED), stage.loans(State.UNKNOWN)
    processed = stage.kiva.processed
    dead = [message for queue in stage.queues.values() for message in (*queue.dead_letters.messages, *queue.expired)]
    lost = sent - accepted - unknown | {each for each in accepted if not processed[each]}
    doubled = [each for each, times in processed.items() if times > 1]
    too_many = max(0, len(stage.calls(State.UNKNOWN)) - most_unknown)
    line.add(len(sent), lost=len(lost) + len(dead), doubled=len(doubled), wrong=too_many)
    assert (lost, dead, doubled, too_many) == (set(), [], [], 0)


@pytest.fixture(autouse=True)
def _same_jitter_each_time():
    random.seed(3)


@pytest.fixture
def stage(stage):
    """With a token, and with the others at work while one waits for an answer."""
    stage.keep_house()
    stage.kiva.before = stage.deliver_meanwhile
    return stage


LENGTHS = [(12 * HOUR, 2001), (24 * HOUR, 2001)] if WHOLE else [(2 * HOUR, 201)]


@pytest.mark.parametrize(("seconds", "events"), LENGTHS)
def test_an_outage_leaves_few_doubts_and_no_dead_letters_and_kiva_is_left_in_peace(stage, tally, seconds, events):
    with tally("Outage") as line:
        outage = Outage(stage.kiva, seconds)
        sent = begin(stage, events) | go_on(stage, events, seconds)
        assert outage.is_over()
        assert stage.kiva.posts <= DOUBTS + AT_ONCE
        # Housekeeping looks for the unknown drafts every five minutes for an hour, then hourly.
        assert stage.kiva.gets <= 3 * trials(seconds) + 13 + seconds / HOUR
        assert stage.kiva.token_requests <= 1 + ENVIRONMENTS * seconds / 60
        recover(stage)
        balance(stage, line, sent, DOUBTS + AT_ONCE)


@pytest.mark.parametrize(("seconds", "events"), LENGTHS)
def test_where_only_posts_fail_each_trial_costs_one_doubt_at_most(stage, tally, seconds, events):
    with tally("Outage") as line:
        Outage(stage.kiva, seconds, reads_too=False)
        sent = begin(stage, events)
        first = stage.kiva.posts
        assert first <= DOUBTS + AT_ONCE
        sent |= go_on(stage, events, seconds)
        most = first + 3 * (DOUBTS - 1 + trials(seconds))
        assert stage.kiva.posts <= most
        recover(stage)
        balance(stage, line, sent, most)


QUARTER = 900
MINUTE = 60
WATCHED = {
    each["MetricName"]
    for each in of_type(read(), "AWS::CloudWatch::Alarm").values()
    if each.get("Namespace") == "KivaRelay"
}


@pytest.fixture(params=["no connection to Kiva", "no token", "Kiva says later"])
def nothing_taken(request, stage):
    """From now on Kiva takes nothing, in one of these ways."""
    match request.param:
        case "no connection to Kiva":
            stage.kiva.ends, stage.kiva.reads = lambda path: End.NO_CONNECTION, lambda: None
        case "no token":
            stage.kiva.token_answers = lambda: None
            stage.pass_time(12 * HOUR)  # the one that they have is over
        case "Kiva says later":
            stage.kiva.ends = lambda path: End.ASKED_TO_WAIT
    return stage


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("seed", range(3))
def test_an_outage_rings_for_a_single_message_and_goes_on_ringing(nothing_taken, capsys, kind, seed):
    random.seed(seed)
    capsys.readouterr()
    began = time.time()
    nothing_taken.send(kind, "L-1")
    nothing_taken.deliver(5 * HOUR, every=10)
    ended, out = time.time(), capsys.readouterr().out
    unavailable = ringing(alarm("KivaUnavailableAlarm"), points(out, "KivaUnavailable"), ended)
    waiting = ringing(alarm("MessagesWaitAlarm"), points(out, "OldestMessageSeconds"), ended)
    assert unavailable[0][0] <= began + QUARTER + MINUTE
    # One span, which begins with the first delivery after an hour and lasts as long as the outage.
    ((first, last),) = waiting
    assert began + HOUR < first <= began + 2 * HOUR + MINUTE
    assert last >= ended
    (message,) = nothing_taken.queues[kind].messages
    assert message.receives > 8


def test_an_outage_that_leaves_doubts_rings_by_its_circuit(stage, capsys):
    capsys.readouterr()
    began = time.time()
    Outage(stage.kiva, 2 * HOUR)
    stage.send(Kind.LOAN_DRAFT, *(f"L-{number}" for number in range(100)))
    stage.deliver(2 * HOUR)
    open_circuits = points(capsys.readouterr().out, "CircuitsOpen")
    ((first, last),) = ringing(alarm("BreakerAlarm"), open_circuits, time.time())
    assert first <= began + QUARTER
    assert last >= began + 2 * HOUR - QUARTER


def test_a_quiet_day_writes_no_metric_that_an_alarm_watches(stage, capsys):
    capsys.readouterr()
    stage.send(Kind.REPAYMENT, "L-1")
    stage.deliver(3 * HOUR)
    out = capsys.readouterr().out
    assert '"SubmissionAccepted"' in out
    assert {name for line in out.splitlines() for name in WATCHED if f'"{name}"' in line} == set()
