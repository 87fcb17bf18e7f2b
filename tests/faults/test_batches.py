"""What the three functions answer to a batch never has the poller delete a message that was not dealt with."""

from itertools import count

import pytest

from faults.bookkeeping_kiva import End
from faults.poller import EventSource
from faults.stage import Stage, body
from kiva_partner import queues
from kiva_partner.breaker import Breaker
from kiva_partner.client import KivaClient, KivaSession
from kiva_partner.ledger import Ledger, State
from kiva_partner.messages import Kind
from kiva_partner.payloads import Payloads
from kiva_partner.queues import Queues
from kiva_partner.relay import Relay
from kiva_partner.telemetry import Telemetry
from kiva_partner.tokens import TokenProvider

UNPARSABLE = '{"currency": "KES", "entreps": [,]}'


class Batch:
    """One function, the queue in front of it, and what is known of the messages of a batch afterwards."""

    def __init__(self, stage, kind, line):
        self.stage, self.kind, self.line = stage, kind, line
        self.queue = stage.queues[kind]
        self.source = EventSource(self.queue, self._handle, batch_size=1000)
        self.handler = stage.new(kind, PARALLEL_CALLS="1")
        self.answers = []

    def _handle(self, event):
        answer = self.handler(event)
        self.answers.append(answer)
        ids = {record["messageId"] for record in event["Records"]}
        assert isinstance(answer, dict)
        assert set(answer) == {"batchItemFailures"}
        assert {failure["itemIdentifier"] for failure in answer["batchItemFailures"]} <= ids
        return answer

    def deliver(self, *bodies):
        """Deliver these in one batch; gives the places of those that are still in the queue."""
        ids = [self.queue.send(each) for each in bodies]
        self.source.poll()
        assert isinstance(self.source.responses[-1], dict), self.source.responses[-1]
        left = {message.message_id for message in self.queue.messages}
        return [place for place, each in enumerate(ids) if each in left]

    def check(self, *loans):
        """Count what became of these loans into the table: each is in the queue, settled, or with a person."""
        waiting = {message.body for message in (*self.queue.messages, *self.queue.dead_letters.messages)}
        settled = self.stage.loans(State.ACCEPTED, State.REJECTED, State.UNKNOWN)
        lost = [loan for loan in loans if (self.kind, loan) not in settled and body(self.kind, loan) not in waiting]
        doubled = [loan for loan in loans if self.stage.kiva.processed[self.kind, loan] > 1]
        self.line.add(len(loans), lost=len(lost), doubled=len(doubled))
        assert (lost, doubled) == ([], [])


@pytest.fixture
def line(tally):
    with tally("Batch semantics") as line:
        yield line


@pytest.fixture(params=list(Kind))
def batch(request, stage, line):
    return Batch(stage, request.param, line)


def loans(number):
    return [f"L-{each}" for each in range(number)]


def test_what_was_accepted_is_deleted(batch):
    assert batch.deliver(*(body(batch.kind, loan) for loan in loans(3))) == []
    batch.check(*loans(3))


def test_what_was_not_processed_stays_all_of_it(batch):
    batch.stage.kiva.ends = lambda path: End.ASKED_TO_WAIT
    assert batch.deliver(*(body(batch.kind, loan) for loan in loans(3))) == [0, 1, 2]
    batch.check(*loans(3))


def test_some_stay_and_the_others_are_deleted(stage, line):
    drafts = Batch(stage, Kind.LOAN_DRAFT, line)
    ends = iter([End.ACCEPTED, End.REFUSED, End.UNAVAILABLE, End.ASKED_TO_WAIT])
    stage.kiva.ends = lambda path: next(ends)
    assert drafts.deliver(*(body(Kind.LOAN_DRAFT, loan) for loan in loans(5))) == [3, 4]
    drafts.check(*loans(5))


@pytest.mark.parametrize("place", [0, 2, 4], ids=["first", "middle", "last"])
def test_a_poisonous_message_goes_to_the_dead_letters_and_its_neighbours_to_kiva(batch, place):
    bodies = [body(batch.kind, loan) for loan in loans(4)]
    bodies.insert(place, UNPARSABLE)
    assert batch.deliver(*bodies) == []
    assert [message.body for message in batch.queue.dead_letters.messages] == [UNPARSABLE]
    assert len(batch.stage.loans(State.ACCEPTED)) == 4
    batch.check(*loans(4))


def test_nothing_but_poison_leaves_an_empty_queue(batch):
    assert batch.deliver(UNPARSABLE, "[]", "no json at all", '"\\ud800"') == []
    assert len(batch.queue.dead_letters.messages) == 4


def test_a_batch_of_nothing_has_no_failures(batch):
    assert batch.handler({"Records": []}) == {"batchItemFailures": []}


def test_a_batch_larger_than_sqs_gives_at_once_is_answered_as_a_whole(batch):
    """Lambda gathers up to 10,000; SQS takes ten at a time to put off."""
    batch.stage.kiva.ends = lambda path: End.ASKED_TO_WAIT
    assert len(batch.deliver(*(body(batch.kind, loan) for loan in loans(25)))) == 25
    assert all(message.visible_at < message.received_at + 1800 for message in batch.queue.messages)
    batch.check(*loans(25))


PARTS = [
    (queues, "parse"),
    (queues, "come_again"),
    (Queues, "put_off"),
    (Queues, "lay_aside"),
    (Relay, "submit"),
    (TokenProvider, "get"),
    (KivaClient, "session"),
    (KivaSession, "has_time"),
    (KivaSession, "obtain_token"),
    (KivaSession, "post_loan_draft"),
    (KivaSession, "post_journals"),
    (KivaSession, "post_repayments"),
    (Breaker, "enter"),
    (Breaker, "note"),
    (Ledger, "claim"),
    (Ledger, "settle"),
    (Ledger, "keep"),
    (Payloads, "keep"),
    (Telemetry, "submissions"),
    (Telemetry, "count"),
]


@pytest.mark.parametrize(("owner", "name"), PARTS, ids=lambda each: getattr(each, "__name__", each))
@pytest.mark.parametrize("end", [End.ACCEPTED, End.ASKED_TO_WAIT, End.UNAVAILABLE_BUT_DONE])
def test_whatever_breaks_the_message_stays_or_is_settled(batch, monkeypatch, owner, name, end):
    def broken(*_, **__):
        raise ValueError(name)

    batch.stage.kiva.ends = lambda path: end
    monkeypatch.setattr(owner, name, broken)
    for each in (*loans(3), "not a loan"):
        batch.queue.send(UNPARSABLE if each == "not a loan" else body(batch.kind, each))
    batch.source.poll()
    if not isinstance(batch.source.responses[-1], dict):
        assert len(batch.queue.messages) == 4
    batch.check(*loans(3))
    still = batch.queue.messages + batch.queue.dead_letters.messages
    assert UNPARSABLE in [message.body for message in still]


class Failing:
    """AWS's clients, of whose calls one fails: before it is done, or after it when only the answer is lost."""

    def __init__(self, clients, failing, *, done):
        self._clients, self._failing, self._done = clients, failing, done
        self.calls = []

    def __getitem__(self, service):
        return _Client(self, self._clients[service])

    def call(self, method, arguments):
        self.calls.append(method.__name__)
        if len(self.calls) != self._failing:
            return method(**arguments)
        if self._done:
            method(**arguments)
        raise TimeoutError(method.__name__)


class _Client:
    def __init__(self, clients, client):
        self._clients, self._client = clients, client
        self.exceptions = getattr(client, "exceptions", None)

    def __getattr__(self, name):
        return lambda **arguments: self._clients.call(getattr(self._client, name), arguments)


@pytest.mark.parametrize("done", [False, True], ids=["not done", "answer lost"])
@pytest.mark.parametrize("end", [End.ACCEPTED, End.ASKED_TO_WAIT, End.UNAVAILABLE_BUT_DONE])
@pytest.mark.parametrize("kind", list(Kind))
def test_whichever_call_to_aws_fails_nothing_is_lost_or_doubled(stage, line, monkeypatch, kind, end, done):
    for failing in count(1):
        fresh = Stage(stage.kiva, stage.pass_time, monkeypatch)
        working, fresh.clients = fresh.clients, Failing(fresh.clients, failing, done=done)
        batch = Batch(fresh, kind, line)
        these = [f"{failing}-{loan}" for loan in loans(2)]
        stage.kiva.ends = lambda path: end
        batch.deliver(*(body(kind, loan) for loan in these), UNPARSABLE)
        batch.check(*these)
        made, fresh.clients = len(fresh.clients.calls), working
        stage.kiva.ends = lambda path: End.ACCEPTED
        fresh.deliver(7200)
        batch.check(*these)
        assert batch.queue.messages == []
        assert UNPARSABLE in [message.body for message in batch.queue.dead_letters.messages]
        if made < failing:
            break
    assert failing > 5
