"""The same events delivered again and again, in any order, to several functions at once: each is processed once."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from faults.environment import Environment
from faults.extent import WHOLE
from faults.partner import Partner, message
from kiva_partner.ledger import State
from kiva_partner.messages import Kind

WORKERS = 4
OTHER_AMOUNT = 31_337
EVENTS, IMPOSTORS = ((334, 333, 333), (34, 33, 33)) if WHOLE else ((68, 66, 66), (8, 6, 6))


@pytest.fixture(scope="module")
def workers(ministack, environment):
    with ExitStack() as stack:
        more = [stack.enter_context(Environment(ministack.endpoint, environment.log)) for _ in range(WORKERS - 1)]
        yield [environment, *more]


@pytest.mark.parametrize(("kind", "events", "impostors"), list(zip(Kind, EVENTS, IMPOSTORS, strict=True)))
def test_what_is_delivered_several_times_is_processed_once_and_what_only_bears_its_name_never(
    kind, events, impostors, ministack, live_kiva, workers, tally
):
    rng = random.Random(kind)  # noqa: S311 by chance, but each time the same
    partner = Partner(ministack, live_kiva, workers[0], kind)
    originals = {loan: message(kind, [loan]) for loan in partner.new_loans(events)}
    copied = rng.sample(list(originals), impostors)
    others = [message(kind, [loan], OTHER_AMOUNT) for loan in copied]

    def work(environment):
        while records := partner.receive():
            partner.deliver(records, environment=environment)

    def deliver(bodies):
        rng.shuffle(bodies)
        partner.send(bodies)
        with ThreadPoolExecutor(WORKERS) as threads:
            list(threads.map(work, workers))

    with tally("Duplicates") as line:
        deliver([body for body in originals.values() for _ in range(rng.randint(1, 5))])
        # Only now, and not next to what they copy: of two contents under a reference the first is the one that goes.
        deliver([*others, *(body for loan, body in originals.items() if loan not in copied)])
        expected = dict.fromkeys(originals, (State.ACCEPTED, 1, 1))
        rows = partner.rows(partner.submissions(originals.values()))
        found = partner.audit(rows, live_kiva.processed, expected)
        sent = [post for post in live_kiva.posts if str(OTHER_AMOUNT).encode() in post]
        letters = [letter["Body"] for letter in partner.letters()]
        line.add(events + impostors, **{name: len(loans) for name, loans in found.items()})
        line.doubled += len(sent)
        line.wrong += abs(impostors - len(letters))
    assert found == {"lost": [], "doubled": [], "wrong": []}
    assert sent == []
    assert sorted(letters) == sorted(json.dumps(body) for body in others)
