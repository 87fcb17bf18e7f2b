"""Kiva is away for half a day or a day: nothing is lost, nothing is doubled, and hardly anybody has to look at PA2.

Simulated time, the numbers of template.yaml, as many environments as it allows; while one waits for Kiva's answer the
others work. Polled once a simulated minute, so that what is visible by then comes in full batches.
"""

import random
import time
from itertools import cycle

import pytest

from faults.bookkeeping_kiva import End
from faults.extent import WHOLE
from faults.stage import concurrency, parallel_calls
from kiva_partner.ledger import State
from kiva_partner.messages import Kind

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
