"""Everything that can happen, in any order, and in the middle of anything else: the promise holds after every step.

A producer sends, SQS delivers (also twice, also long after), environments die between any two of their calls, AWS's
answers get lost, Kiva answers or does not, people decide, housekeeping runs, dead letters go back, time jumps. What
must be true is in books.py.
"""

import logging
import os
from contextlib import ExitStack, suppress
from functools import partial
from unittest import mock

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import UNSET

from faults.bookkeeping_kiva import BookkeepingKiva, End
from faults.books import Books, body, submissions_of
from faults.extent import WHOLE
from faults.poller import Died, EventSource
from faults.world import MOST_RECEIVES, InTurn, Lost, World
from kiva_partner import queues, relay
from kiva_partner.decisions import Choice, Decision
from kiva_partner.errors import NotDecidable
from kiva_partner.housekeeping import RETENTION_SECONDS
from kiva_partner.ledger import WAITING, State
from kiva_partner.messages import Kind
from kiva_partner.payloads import pointed
from kiva_partner.settings import KINDS, UnknownPolicy

EXAMPLES, STEPS = (2000, 50) if WHOLE else (100, 40)
PHASES = [Phase.generate, Phase.shrink]
if "FIRST_FAILURE_IS_ENOUGH" in os.environ:  # for the broken variants, see mutants.py
    EXAMPLES, PHASES = 500, [Phase.generate]

WHICH = st.integers(0, 30)
ENDS = st.lists(st.sampled_from(list(End)), min_size=1, max_size=4)
NUMBERS = st.integers(1, 8)
VERSIONS = st.sampled_from([10, 10, 10, 20])
PLACES = st.integers(1, 20)
TIMES = st.sampled_from([1, 60, 400, 1300, 3600, 86_400, 3 * 86_400])
DECIDABLE = (State.UNKNOWN, State.STUCK)
MEANWHILE = ["_other", "_twice", "_late", "_house", "_wait", "_decision"]


class Machine(RuleBasedStateMachine):
    runs = 0

    def __init__(self):
        super().__init__()
        self._patched = ExitStack()
        self._patched.enter_context(mock.patch.object(relay, "ThreadPoolExecutor", InTurn))
        self._patched.enter_context(mock.patch.object(queues, "MOST_RECEIVES", MOST_RECEIVES))
        self.kiva = BookkeepingKiva()
        self.kiva.__enter__()
        self.ends = []
        self.kiva.ends = lambda path: self.ends.pop(0) if self.ends else End.ACCEPTED
        self.records = []
        type(self).runs += 1

    @initialize(kinds=st.sampled_from([*([kind] for kind in Kind), list(Kind)]), resend=st.booleans())
    def begin(self, kinds, resend):
        policies = dict.fromkeys(KINDS, UnknownPolicy.HOLD)
        if resend:
            policies[Kind.REPAYMENT] = UnknownPolicy.RESEND
        self.kinds = kinds
        self.world = World(self.kiva, policies)
        self.books = Books(self.world)
        self.kiva.proven = self.world.proven
        self.warm = self.world.environment()

    # --- what happens by itself ---

    @rule(which=WHICH, number=NUMBERS, version=VERSIONS, by_api=st.booleans())
    def send(self, which, number, version, by_api):
        kind = self._one_of(self.kinds, which)
        text = self._send(kind, number, version)
        if by_api:
            self.warm.ledger.enqueue(submissions_of(kind, text))

    @rule(which=WHICH, ends=ENDS, cold=st.booleans())
    def deliver(self, which, ends, cold):
        if cold:
            self.warm = self.world.environment()
        self._deliver(self._due(which), ends)

    @rule(which=WHICH, ends=ENDS, at=PLACES)
    def deliver_and_die(self, which, ends, at):
        self._deliver(self._due(which), ends, at, self._die)

    @rule(which=WHICH, ends=ENDS, at=PLACES)
    def deliver_and_get_no_answer_from_aws(self, which, ends, at):
        self._deliver(self._due(which), ends, at, self._fail)

    @rule(which=WHICH, ends=ENDS, at=PLACES, what=st.sampled_from(MEANWHILE))
    def deliver_while_something_else_goes_on(self, which, ends, at, what):
        kind = self._due(which)
        self._deliver(kind, ends, at, partial(getattr(self, what), kind))

    @precondition(lambda self: self._in_hand())
    @rule(which=WHICH, ends=ENDS)
    def deliver_twice(self, which, ends):
        self.ends = list(ends)
        self._twice(self._one_of(self._in_hand(), which))

    @precondition(lambda self: self.records)
    @rule(which=WHICH, ends=ENDS)
    def deliver_long_after(self, which, ends):
        self.ends = list(ends)
        self._late(self._one_of(self.records, which)[0], which)

    @rule(at=st.integers(0, 20), what=st.sampled_from(["_die", "_fail", "_other"]), which=WHICH)
    def keep_house(self, at, what, which):
        environment, kind = self.world.environment(), self._one_of(self.kinds, which)
        meanwhile = partial(self._other, kind) if what == "_other" else getattr(self, what)
        with suppress(Died, Lost):
            environment.invoke(environment.keep_house, at, meanwhile)

    @rule(seconds=TIMES)
    def time_passes(self, seconds):
        self.world.clock.advance(seconds)

    @precondition(lambda self: any(queue.dead_letters.messages for queue in self.world.queues.values()))
    @rule()
    def redrive(self):
        for queue in self.world.queues.values():
            queue.dead_letters.redrive(queue)

    @precondition(lambda self: self._in_hand())
    @rule(which=WHICH)
    def purge(self, which):
        """Somebody empties a queue."""
        self.world.queues[self._one_of(self._in_hand(), which)].purge()

    # --- what people do ---

    @precondition(lambda self: self._in(*DECIDABLE))
    @rule(
        which=WHICH,
        choice=st.sampled_from([Choice.ACCEPTED, Choice.SEND_AGAIN, Choice.ABANDON]),
        at=st.integers(0, 12),
        later=st.sampled_from([0, 1300]),
        but=st.booleans(),
    )
    def decide(self, which, choice, at, later, *, but=False):
        self.world.clock.advance(later)
        self._decide(which, choice, at, but=but)

    @precondition(lambda self: self._in(State.REJECTED))
    @rule(which=WHICH, at=st.integers(0, 6), sends=st.booleans())
    def reopen(self, which, at, sends):
        """Somebody lets what was refused be sent once more; the producer sends it, or does not."""
        kind, reference = self._one_of(self._in(State.REJECTED), which)
        environment = self.world.environment()
        row = environment.ledger.read(kind, reference)
        decision = Decision(decision=Choice.REOPEN, reason="the reason is gone")
        with suppress(NotDecidable, Died):
            environment.invoke(lambda: environment.decisions.decide(row, decision, "somebody"), at, self._die)
        texts = [text for of, text in self.records if of is kind and kept_under(of, text, row)]
        if sends and texts:
            self.world.queues[kind].send(texts[0])

    @precondition(lambda self: self._drafts_at_kiva())
    @rule(which=WHICH)
    def publish(self, which):
        """Somebody publishes a draft in PA2: from then on it can be read."""
        self.kiva.published.append(
            {
                "internal_loan_id": self._one_of(self._drafts_at_kiva(), which),
                "internal_client_id": "C",
                "create_time": int(self.world.clock()),
                "kiva_id": 1 + len(self.kiva.published),
                "uuid": f"00000000-0000-4000-9000-{len(self.kiva.published):012}",
            }
        )

    # --- what there is to choose from ---

    def _one_of(self, choices, which):
        return choices[which % len(choices)]

    def _due(self, which):
        """A queue with something to deliver: after waiting for it, or with something new, if need be."""
        if not any(self.world.queues[kind].messages for kind in self.kinds):
            self._send(self._one_of(self.kinds, which), 1 + which % 8, 10)
        queues = [self.world.queues[kind] for kind in self.kinds if self.world.queues[kind].messages]
        self.world.clock.now = max(self.world.clock(), min(queue.next_visible_at for queue in queues))
        return self._one_of([kind for kind in self.kinds if self.world.queues[kind].visible], which)

    def _in_hand(self):
        return [kind for kind in self.kinds if any(each.receives for each in self.world.queues[kind].messages)]

    def _in(self, *states):
        return [row.key for row in self.books.rows() if row.state in states]

    def _drafts_at_kiva(self):
        return sorted({loan for kind, loan in self.kiva.processed if kind is Kind.LOAN_DRAFT})

    # --- in the middle of something else ---

    def _send(self, kind, number, version):
        text = body(kind, number, version)
        self.books.producer_sent(kind, text)
        self.world.queues[kind].send(text)
        return text

    def _deliver(self, kind, ends, at=0, what=None):
        self.ends = list(ends)
        environment = self.warm
        source = self._source(kind, environment, at, what)
        records = source.receive()
        self.records += [(kind, record["body"]) for record in records]
        letters = self.world.queues[kind].dead_letters
        before = {letter.message_id for letter in letters.messages}
        if records:
            source.invoke(records)
        if not at:
            self._check_letters(kind, [each for each in letters.messages if each.message_id not in before])
        if environment.is_dead:
            self.warm = self.world.environment()

    def _check_letters(self, kind, letters):
        """Nothing has come between: no row waits for a message that has just become a dead letter."""
        dead = {event for letter in letters for event in self.books.events_of(kind, letter.body)}
        for row in self.books.rows():
            if row.event in dead and row.state in WAITING and not row.requeue:
                self.books.broken.append(f"{row}, and its message is a dead letter")

    def _source(self, kind, environment, at=0, what=None):
        def handler(event):
            try:
                return environment.invoke(lambda: environment.consume(kind, event["Records"]), at, what)
            except Exception as error:
                if not isinstance(error, Lost):
                    self.books.broken.append(f"the function raised {error!r}")
                raise

        return EventSource(self.world.queues[kind], handler)

    def _die(self):
        raise Died

    def _fail(self):
        raise Lost

    def _other(self, kind):
        """The same queue's next batch, in another environment."""
        self._source(kind, self.world.environment()).poll()

    def _twice(self, kind):
        """SQS delivers what somebody has in hand, to another environment."""
        if records := self.world.queues[kind].duplicate():
            self._source(kind, self.world.environment()).invoke(records)

    def _late(self, kind, which=0):
        """SQS delivers a message that was deleted long ago: at least once means just that."""
        bodies = [text for of, text in self.records if of is kind]
        if bodies:
            self.world.queues[kind].send(self._one_of(bodies, which))
            self._other(kind)

    def _house(self, kind):
        environment = self.world.environment()
        environment.invoke(environment.keep_house)

    def _wait(self, kind):
        """A slow network; not longer than an invocation lives and its claims with it."""
        self.world.clock.advance(200)

    def _decision(self, _):
        """Somebody decides to send again."""
        if self._in(State.UNKNOWN):
            self._decide(0, Choice.SEND_AGAIN, of=[State.UNKNOWN])

    def _decide(self, which, choice, at=0, *, but=False, of=DECIDABLE):
        """`but`: Kiva has the call without this row. What is typed may prove another call, and is refused then."""
        kind, reference = self._one_of(self._in(*of), which)
        environment = self.world.environment()
        row = environment.ledger.read(kind, reference)
        accepted = choice is Choice.ACCEPTED
        found = f"K-{which % 9}" if accepted else UNSET
        excepted = [reference] if accepted and but else UNSET
        decision = Decision(decision=choice, reason="looked in PA2", kiva_reference=found, excepted=excepted)
        self.books.may_send_again |= choice is Choice.SEND_AGAIN
        with suppress(NotDecidable, Died):
            environment.invoke(lambda: environment.decisions.decide(row, decision, "somebody"), at, self._die)

    # --- what must be true ---

    @invariant()
    def the_books_balance(self):
        if hasattr(self, "books"):
            self.books.check()

    def teardown(self):
        try:
            if hasattr(self, "books"):
                self.ends = []
                self._come_to_rest()
        finally:
            self.close()

    def close(self):
        self.kiva.__exit__()
        self._patched.close()

    def _come_to_rest(self):
        """Nothing fails any more and time goes on: nothing waits for nobody. Put back or sent again, all is settled."""
        for _ in range(4):
            self._run_until_quiet()
            self.world.clock.advance(RETENTION_SECONDS + 1)
            self._house(None)
            self.books.check()
            left = [row for row in self.books.open() if row.state is not State.UNKNOWN]
            if not left:
                return
            stuck = {row.event for row in left if row.state is State.STUCK}
            assert all(row.event in stuck or row.requeue for row in left), f"nothing brings it to Kiva: {left}"
            self.redrive()
            for event in sorted(stuck - self.books.places()):
                self.world.queues[Kind(event[0])].send(self.books.texts[event])
        raise AssertionError(f"it does not come to rest: {self.books.open()}, {self.world.queues}")

    def _run_until_quiet(self):
        for _ in range(100):
            environment = self.world.environment()
            environment.keep_house()
            for kind in Kind:
                while self.world.queues[kind].visible:
                    self._deliver(kind, [])
            busy = any(row.state is State.SENDING or row.requeue for row in self.books.open())
            if not busy and not any(queue.messages for queue in self.world.queues.values()):
                return
            self.world.clock.advance(1800)


def kept_under(kind, text, row):
    """Whether a message that was delivered holds the very content of a row."""
    return not pointed(text) and row.fingerprint in {each.fingerprint for each in submissions_of(kind, text)}


def test_the_promise_holds_whatever_happens(tally, caplog):
    caplog.set_level(logging.CRITICAL, "kiva_partner")
    with tally("State machine") as line:
        Machine.runs = 0
        wrong = 1
        try:
            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS,
                    derandomize=True,
                    database=None,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    phases=PHASES,
                ),
            )
            wrong = 0
        finally:
            line.add(Machine.runs, wrong=wrong)


def test_what_was_abandoned_is_not_sent_whatever_its_reference_was_used_for_since():
    machine = Machine()
    try:
        machine.begin(kinds=[Kind.LOAN_DRAFT], resend=False)
        machine.send(which=0, number=1, version=20, by_api=False)
        machine.deliver(which=0, ends=[End.UNAVAILABLE_BUT_DONE], cold=False)
        machine.decide(which=0, choice=Choice.ABANDON, at=0, later=1300)
        machine.send(which=0, number=1, version=10, by_api=False)
        machine.deliver(which=0, ends=[End.REFUSED], cold=False)
        machine.deliver_long_after(which=0, ends=[End.ACCEPTED])
        assert machine.kiva.processed[Kind.LOAN_DRAFT, "1"] == 1
    finally:
        machine.close()
