"""The function's process is killed wherever it hurts; then time passes until nothing is left to do.

Nothing may be lost, doubled or stuck: what was claimed when the process died is UNKNOWN, with its payload kept for
whoever decides, and everything else is ACCEPTED.
"""

import random
from itertools import batched, count

import pytest

from faults.environment import CLAIMED_TOGETHER, Death, Killed
from faults.extent import WHOLE
from faults.faults import Fault
from faults.kiva_stub import POST
from faults.partner import AFTER_SETTLING, AFTER_THE_LEASE, Partner, message
from kiva_partner.ledger import State
from kiva_partner.messages import Kind
from sockets import answer

SEEDS = range(10 if WHOLE else 1)

ONCE, MESSAGE, WAVE, CALL = "invocation", "message", "wave", "call"
POINTS = {
    "after receiving": (MESSAGE, "before", "kiva_partner.queues:parse"),
    "after the token": (ONCE, "after", "kiva_partner.client:KivaSession.obtain_token"),
    "after the claim": (WAVE, "after", "kiva_partner.ledger:Ledger.claim"),
    "in the middle of the body": (CALL, "within", "kiva_partner.client:_HTTPConnection.send"),
    "after the last byte": (CALL, "by Kiva", ""),
    "after the answer": (CALL, "after", "kiva_partner.client:_read"),
    "before recording": (WAVE, "before", "kiva_partner.ledger:Ledger.settle"),
    "after recording": (WAVE, "after", "kiva_partner.ledger:Ledger.settle"),
    "before keeping the unknown": (ONCE, "before", "kiva_partner.ledger:Ledger.keep"),
}
"""How often the function passes there, and where that is in the code."""


class Case:
    """One partner with some messages, and what comes of them; everything by chance, from a seed."""

    def __init__(self, name, kind, kiva, environment, ministack):
        self.rng = random.Random(name)  # noqa: S311 by chance, but each time the same
        self.kiva = kiva
        self.doubted = set()
        self._arrivals, self._killing, self._doubtful = count(1), 0, None
        self._environment = environment
        kiva.fail(POST, Fault("what the case wants", self._answer))
        rows_per_call, parallel = self.rng.randint(1, 3), self.rng.randint(1, 3)
        self.partner = Partner(
            *(ministack, kiva, environment, kind),
            REPAYMENTS_PER_CALL=str(rows_per_call),
            JOURNALS_PER_CALL=str(rows_per_call),
            PARALLEL_CALLS=str(parallel),
        )
        most_rows = 1 if kind is Kind.LOAN_DRAFT else 3
        bodies = [
            message(kind, self.partner.new_loans(self.rng.randint(1, most_rows))) for _ in range(self.rng.randint(1, 8))
        ]
        self.submissions = self.partner.submissions(bodies)
        calls = [len(some) for some in batched(self.submissions, 1 if kind is Kind.LOAN_DRAFT else rows_per_call)]
        self._passes = {ONCE: 1, WAVE: waves(calls, parallel), CALL: len(calls)}
        bodies += self.rng.choices(bodies, k=self.rng.randint(0, 2))
        self.rng.shuffle(bodies)
        self.partner.send(bodies)

    def die(self, point):
        """Deliver, and kill the function at a point. Gives the loans that were claimed then."""
        records = self.partner.receive()
        often, when, where = POINTS[point]
        occurrence = self.rng.randint(1, {**self._passes, MESSAGE: len(records)}[often])
        if when == "by Kiva":
            self._killing = occurrence
        survived = self.partner.deliver(records, Death(when, where, occurrence) if where else None)
        assert not survived
        return [loan for loan, row in self.rows().items() if row.state is State.SENDING]

    def rows(self):
        return self.partner.rows(self.submissions)

    def leave_doubts(self):
        """Kiva answers 500 to one of the calls, though it did what it was asked for."""
        self._doubtful = self.rng.choice(self.submissions).loan_id

    def _answer(self, exchange, kiva):
        """Kiva's, to every POST."""
        status, body = kiva.process(exchange)
        if next(self._arrivals) == self._killing:
            self._environment.kill()
        loans = [each.loan_id for each in self.submissions if f'"{each.loan_id}"'.encode() in exchange.body()]
        if self._doubtful in loans:
            self.doubted.update(loans)
            status = b"500 Internal Server Error"
        exchange.send(answer(status, body, b"Connection: close"))

    def close(self, line, unknown, decided=None):
        """Let time pass, and compare the books: these are UNKNOWN, or as was decided, and the others ACCEPTED."""
        quiet = self.partner.live_until_quiet(self.rng)
        doubtful = {*unknown, *self.doubted}
        expected = {
            each.loan_id: (State.UNKNOWN, 0, 1) if each.loan_id in doubtful else (State.ACCEPTED, 1, 1)
            for each in self.submissions
        }
        found = self.partner.audit(self.rows(), self.kiva.processed, expected | (decided or {}))
        line.add(**{name: len(loans) for name, loans in found.items()})
        assert found == {"lost": [], "doubled": [], "wrong": []}
        assert quiet


def waves(calls, parallel):
    """How many waves calls with so many rows come in."""
    number = 0
    while calls:
        width = parallel
        while width < len(calls) and sum(calls[: width + 1]) <= CLAIMED_TOGETHER:
            width += 1
        calls, number = calls[width:], number + 1
    return number


@pytest.fixture(params=SEEDS)
def case(request, kind, live_kiva, environment, ministack):
    yield Case(request.node.name, kind, live_kiva, environment, ministack)
    live_kiva.heal()


@pytest.fixture(params=Kind)
def kind(request):
    return request.param


@pytest.mark.parametrize("point", POINTS)
def test_a_function_killed_while_it_sends_loses_nothing_and_doubles_nothing(point, case, tally):
    with tally("Kills") as line:
        if point != "after the token":  # mostly it is there already, and then every answer is one to a POST
            case.partner.keep_house()
        if point == "before keeping the unknown" or (point != "after the answer" and case.rng.random() < 0.3):
            case.leave_doubts()
        case.close(line, unknown=case.die(point))


@pytest.fixture
def unknown(case):
    """What is UNKNOWN and kept, and long enough that somebody may decide."""
    claimed = case.die(case.rng.choice(["after the claim", "after the last byte", "before recording"]))
    assert case.partner.live_until_quiet(case.rng)
    case.partner.ahead += AFTER_SETTLING
    return claimed


def decide(case, unknown, decision, death=None):
    """Somebody goes through what is UNKNOWN; what went to Kiva in one call is decided with the first of it."""
    for loan in unknown:
        row = case.rows()[loan]
        more = {"kiva_reference": f"of-{row.call_id}"} if decision == "accepted" else {}
        if row.state is State.UNKNOWN:
            assert case.partner.decide(row.reference, death, decision=decision, **more) == 200


def after(decision, case, unknown):
    """What should come of it after this decision about all that is UNKNOWN."""
    state = State.ABANDONED if decision == "abandon" else State.ACCEPTED
    before = {loan: case.kiva.processed[loan] + (decision == "send-again") for loan in unknown}
    return {loan: (state, times, times) for loan, times in before.items()}


def test_housekeeping_killed_while_it_gives_up_dead_claims_gives_up_the_rest_next_time(case, tally):
    with tally("Kills") as line:
        claimed = case.die("after the claim")
        case.partner.ahead += AFTER_THE_LEASE
        nth = case.rng.randint(1, len(claimed))
        with pytest.raises(Killed):
            case.partner.keep_house(Death("after", "kiva_partner.ledger:Ledger.expire_claim", nth))
        case.close(line, unknown=claimed)


def test_housekeeping_killed_around_its_note_that_a_message_is_queued_sends_it_again_once(case, unknown, tally):
    with tally("Kills") as line:
        when = case.rng.choice(["before", "after"])
        decided = after("send-again", case, unknown)
        decide(case, unknown, "send-again")
        nth = case.rng.randint(1, len(unknown))
        with pytest.raises(Killed):
            case.partner.keep_house(Death(when, "kiva_partner.ledger:Ledger.requeued", nth))
        case.close(line, unknown=[], decided=decided)


def test_a_decision_whose_function_is_killed_was_taken_or_can_be_taken_again(case, unknown, tally):
    with tally("Kills") as line:
        when = case.rng.choice(["before", "after"])
        decision = case.rng.choice(["accepted", "abandon", "send-again"])
        decided = after(decision, case, unknown)
        with pytest.raises(Killed):
            decide(case, unknown, decision, Death(when, "kiva_partner.ledger:Ledger.resolve"))
        decide(case, unknown, decision)
        case.close(line, unknown=[], decided=decided)
