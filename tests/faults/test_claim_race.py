"""Whoever asks for the right to send a submission at the same time: one gets it."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import batched

import pytest

from faults.extent import WHOLE
from faults.partner import Partner, message
from kiva_partner.ledger import ClaimResult
from kiva_partner.messages import Kind

CLAIMANTS = 16
KEYS = 500 if WHOLE else 60
KEYS_PER_ROUND = 10


@pytest.fixture
def submissions(ministack, live_kiva, environment):
    partner = Partner(ministack, live_kiva, environment, Kind.REPAYMENT)
    return partner, partner.submissions([message(Kind.REPAYMENT, partner.new_loans(KEYS))])


def test_of_all_who_claim_a_submission_at_the_same_time_one_gets_it(submissions, tally):
    partner, wanted = submissions
    ledgers = [partner.new_ledger() for _ in range(CLAIMANTS)]
    start = threading.Barrier(CLAIMANTS, timeout=60)  # or one that fails would leave the others waiting

    def claim(number):
        """Some after some, so that all meet again and again; each in an order and in batches of its own."""
        rng = random.Random(number)  # noqa: S311 by chance, but each time the same
        results = {}
        for some in batched(wanted, KEYS_PER_ROUND):
            waiting = rng.sample(some, len(some))
            start.wait()
            while waiting:
                size = rng.randint(1, 5)
                results |= ledgers[number].claim(waiting[:size], f"claimant {number}", time.time() + 600)
                waiting = waiting[size:]
        return {reference: result for reference, (result, _) in results.items()}

    with tally("Claim race") as line:
        with ThreadPoolExecutor(CLAIMANTS) as threads:
            results = list(threads.map(claim, range(CLAIMANTS)))
        rows = partner.ledger.read_all(Kind.REPAYMENT, [each.reference for each in wanted])
        winners = {
            each.reference: [
                f"claimant {number}"
                for number, result in enumerate(results)
                if result[each.reference] is ClaimResult.CLAIMED
            ]
            for each in wanted
        }
        nobody = [reference for reference, names in winners.items() if not names]
        several = {reference: names for reference, names in winners.items() if len(names) > 1}
        usurped = [
            reference for reference, names in winners.items() if len(names) == 1 and rows[reference].owner != names[0]
        ]
        line.add(KEYS, lost=len(nobody), doubled=len(several), wrong=len(usurped))
    assert (nobody, several, usurped) == ([], {}, [])
    told = Counter(result for each in results for result in each.values())
    assert told == {ClaimResult.CLAIMED: KEYS, ClaimResult.BUSY: (CLAIMANTS - 1) * KEYS}
    assert len({names[0] for names in winners.values()}) > 1, "they did not meet, so nothing was shown"
