"""DynamoDB's answers get lost, and nobody knows what was written: one POST all the same, not none and not two."""

import random
from itertools import cycle, islice, product

import pytest

from faults.environment import Environment
from faults.extent import WHOLE
from faults.faults import Fault, come_later
from faults.kiva_stub import POST
from faults.lossy_wire import MOST, Loss, LossyWire
from faults.partner import AFTER_SETTLING, Partner, message
from kiva_partner.ledger import State
from kiva_partner.messages import Kind
from sockets import answer

CASES = list(enumerate(islice(cycle(product(Loss, Kind)), 100 if WHOLE else 20)))

NEVER_CLEARED_UP = {
    ("claim", Loss.ALL_ARRIVES_LATE),
    ("settle", Loss.EVERY_REQUEST),
    *(("prove", loss) for loss in Loss if loss not in MOST),
}
"""A claim of which its claimant never hears; an outcome that is only in the log, for no list is settled before it
is known that its proof is its own."""


@pytest.fixture(scope="module")
def wire(ministack):
    with LossyWire(ministack.endpoint) as wire:
        yield wire


@pytest.fixture(scope="module")
def behind(ministack, wire, tmp_path_factory):
    log = tmp_path_factory.mktemp("behind-the-wire") / "log"
    with Environment(ministack.endpoint, log, AWS_ENDPOINT_URL_DYNAMODB=wire.url) as environment:
        yield environment


@pytest.fixture
def partner(kind, ministack, live_kiva, behind):
    return Partner(ministack, live_kiva, behind, kind)


@pytest.mark.parametrize(
    ("write", "number", "loss", "kind"),
    [
        (write, number, loss, kind)
        for number, (loss, kind) in CASES
        for write in ("claim", "settle", "prove")
        if write != "prove" or kind is not Kind.LOAN_DRAFT  # whose proof is claimed together with its row
    ],
)
def test_a_write_whose_answer_is_lost_leads_to_one_post(write, number, loss, partner, live_kiva, wire, behind, tally):
    rng = random.Random(f"{write} {number}")  # noqa: S311 by chance, but each time the same
    bodies = [message(partner.kind, [loan]) for loan in partner.new_loans(rng.randint(1 + (write == "prove"), 6))]
    submissions = partner.submissions(bodies)
    with tally("Lost responses") as line:
        partner.send(bodies)
        wire.lose(write, loss)
        partner.deliver(partner.receive(), hurried=True)
        assert wire.lost
        wire.heal()
        wire.arrive()
        sent = [each.loan_id for each in submissions if live_kiva.processed[each.loan_id]]
        claimed = [loan for loan, row in partner.rows(submissions).items() if row.state is State.SENDING]
        assert bool(claimed) == ((write, loss) in NEVER_CLEARED_UP)

        quiet = partner.live_until_quiet(rng)
        expected = {each.loan_id: (State.ACCEPTED, 1, 1) for each in submissions}
        expected |= {loan: (State.UNKNOWN, loan in sent, loan in sent) for loan in claimed}
        found = partner.audit(partner.rows(submissions), live_kiva.processed, expected)
        line.add(**{name: len(loans) for name, loans in found.items()})
        assert found == {"lost": [], "doubled": [], "wrong": []}
        assert quiet
        if write != "claim" and loss not in MOST:
            said = behind.log.read_text()
            assert all(str(reference) in said for loan in sent for reference in live_kiva.references[loan])


@pytest.mark.parametrize("kind", Kind)
def test_an_outcome_that_arrives_after_its_claim_has_passed_on_changes_nothing(partner, live_kiva, wire, tally):
    rng = random.Random(partner.kind)  # noqa: S311
    (loan,) = partner.new_loans(1)
    bodies = [message(partner.kind, [loan])]
    submissions = partner.submissions(bodies)

    def answer_meanwhile(exchange, kiva):
        wire.arrive()
        exchange.send(answer(*kiva.process(exchange), b"Connection: close"))

    with tally("Lost responses") as line:
        partner.send(bodies)
        live_kiva.fail(POST, Fault("asks to come later", come_later(), once=True))
        wire.lose("settle", Loss.ALL_ARRIVES_LATE)
        partner.deliver(partner.receive(), hurried=True)
        wire.heal()
        assert partner.live_until_quiet(rng)
        partner.ahead += AFTER_SETTLING
        assert partner.decide(submissions[0].reference, decision="send-again") == 200

        live_kiva.fail(POST, Fault("that it may be sent again arrives while it is sent again", answer_meanwhile))
        quiet = partner.live_until_quiet(rng)
        live_kiva.heal()
        found = partner.audit(partner.rows(submissions), live_kiva.processed, {loan: (State.ACCEPTED, 1, 1)})
        line.add(**{name: len(loans) for name, loans in found.items()})
    assert found == {"lost": [], "doubled": [], "wrong": []}
    assert quiet
