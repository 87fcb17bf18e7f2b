"""The ledger is restored from a backup, and knows nothing of what was sent since: nothing is submitted twice.

Simulated time and the numbers of template.yaml; the real functions, in environments that stay warm over the restore.
"""

import pytest

from kiva_partner.ledger import State
from kiva_partner.messages import Kind

HOUR = 3600
LOANS = [f"L-{number}" for number in range(5)]
"""Of each kind."""


@pytest.fixture
def stage(stage):
    stage.keep_house()
    return stage


def send(stage, loans):
    for kind in Kind:
        stage.send(kind, *loans)


def sent_twice(stage):
    return [each for each, times in stage.kiva.processed.items() if times > 1]


@pytest.mark.parametrize("before", [[], ["L-before"]], ids=["of an empty table", "of a table in use"])
def test_what_was_sent_since_the_backup_is_not_sent_again(stage, tally, before):
    with tally("Restores") as line:
        send(stage, before)
        stage.deliver()
        backup = stage.dynamodb.backup()
        send(stage, LOANS)
        stage.deliver()
        posts = stage.kiva.posts
        stage.dynamodb.restore(backup)
        stage.pass_time(60)  # a restore takes longer, and until it is over no claim can be written
        send(stage, LOANS)
        stage.deliver(3 * HOUR)
        line.add(len(LOANS) * len(Kind), doubled=len(sent_twice(stage)))
        assert (stage.kiva.posts, sent_twice(stage)) == (posts, [])
        assert all(len(queue.messages) == len(LOANS) for queue in stage.queues.values())


def test_once_a_person_has_judged_the_gap_what_waits_is_sent_once(stage, tally):
    with tally("Restores") as line:
        send(stage, ["L-before"])
        stage.deliver()
        stage.dynamodb.restore(stage.dynamodb.backup())
        stage.pass_time(60)
        send(stage, LOANS)
        stage.deliver(HOUR)
        stage.confirm_restored()
        stage.deliver(2 * HOUR)
        accepted = stage.loans(State.ACCEPTED)
        lost = {(kind, loan) for kind in Kind for loan in LOANS} - accepted
        line.add(len(LOANS) * len(Kind), lost=len(lost), doubled=len(sent_twice(stage)))
        assert (lost, sent_twice(stage)) == (set(), [])
